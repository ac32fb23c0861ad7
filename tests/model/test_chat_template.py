"""Token ids are the transformers renderer's, and the trained tokens are the answers and their end token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthier.errors import DataError, ModelError
from luthier.model.chat_template import ChatTokenizer, for_template

pytestmark = pytest.mark.unit

CALL = {"id": "c1", "type": "function", "function": {"name": "tune", "arguments": '{"string": "A", "hz": 440}'}}
TOOL = {"type": "function", "function": {"name": "tune", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


@pytest.fixture(scope="module")
def chat(tiny_model_folder: Path) -> ChatTokenizer:
    return ChatTokenizer(tiny_model_folder)


def trained_text(chat: ChatTokenizer, messages, tools=None) -> str:
    row = chat.encode_example(messages, tools, place="x:1")
    return chat.tokenizer.decode(row.ids[row.trained])


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("a"), assistant("one")], "one<|im_end|>"),
        ([user("a"), assistant("one"), user("b"), assistant("two")], "one<|im_end|>two<|im_end|>"),
        ([user("a"), assistant("one", weight=0), user("b"), assistant("two", weight=1)], "two<|im_end|>"),
        ([assistant("hello"), user("a"), assistant("one")], "hello<|im_end|>one<|im_end|>"),
        ([user("a"), assistant("one"), assistant("again")], "one<|im_end|>again<|im_end|>"),
        ([user("a"), assistant("one"), user("trailing")], "one<|im_end|>"),
        ([{"role": "developer", "content": "s"}, user("a"), assistant(" ünï\n")], " ünï\n<|im_end|>"),
        ([user("assistant"), assistant("user")], "user<|im_end|>"),
        ([user("a"), assistant([{"type": "text", "text": "par"}, {"type": "text", "text": "ts"}])], "parts<|im_end|>"),
    ],
)  # fmt: skip
def test_only_answers_and_their_end_token_are_trained(chat, messages, expected):
    assert trained_text(chat, messages) == expected


def test_ids_are_the_renderers(chat):
    messages = [user("a\n\n1"), assistant("b 22")]
    reference = chat.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert chat.encode_example(messages).ids.tolist() == reference
    prompt = chat.tokenizer.apply_chat_template(
        messages[:1], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert chat.encode_prompt(messages[:1]) == prompt == reference[: len(prompt)]


def test_an_example_without_a_trained_token_is_refused(chat):
    with pytest.raises(DataError, match=r"rows\.jsonl:7") as caught:
        chat.encode_example([user("a"), assistant("b", weight=0)], place="rows.jsonl:7")
    assert caught.value.code == "nothing_trained"


def test_a_template_that_drops_tool_calls_or_tools_is_refused(chat):
    called = [user("a"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    with pytest.raises(DataError, match="leaves out message 2") as caught:
        chat.encode_example(called, place="x:1")
    assert caught.value.code == "template_drops_content"
    with pytest.raises(DataError, match="functions in `tools`"):
        chat.encode_example([user("a"), assistant("b")], [TOOL], place="x:1")


def test_a_template_that_never_ends_the_turn_is_refused(tiny_model_folder, tmp_path):
    import shutil

    shutil.copytree(tiny_model_folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    )
    with pytest.raises(ModelError, match="never learn to stop"):
        ChatTokenizer(tmp_path / "m")


def test_a_model_without_a_template_is_refused(tiny_model_folder, tmp_path):
    import shutil

    shutil.copytree(tiny_model_folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError) as caught:
        ChatTokenizer(tmp_path / "m")
    assert caught.value.code == "no_chat_template"


def test_arguments_become_an_object_and_weight_is_ours():
    adapted = for_template([{"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 1}])
    assert adapted[0]["tool_calls"][0]["function"]["arguments"] == {"string": "A", "hz": 440}
    assert "weight" not in adapted[0]
    assert isinstance(CALL["function"]["arguments"], str)  # the row itself is untouched


def test_the_last_answer_is_measured(chat):
    row = chat.encode_example([user("a"), assistant("long answer"), user("b"), assistant("hey")], place="x:1")
    assert row.last_answer_tokens == len("hey") + 1


@pytest.fixture(scope="module")
def smollm2(smollm2_folder: Path) -> ChatTokenizer:
    return ChatTokenizer(smollm2_folder)


PLAIN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's published template, as in the GGUF file."""

SETS = ("snips-json", "nba-sql-exec", "wikisql-sql", "banking77-intent", "tools-glaive", "general-instructions")


@pytest.mark.model
@pytest.mark.parametrize("name", SETS)
def test_ids_equal_the_renderers_on_every_public_row(smollm2, public_data, name):
    rows = compared = 0
    for file in sorted((public_data / name).glob("*.jsonl")):
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            record = json.loads(line)
            messages, tools = record["messages"], record.get("tools")
            row = smollm2.encode_example(messages, tools, place=f"{file.name}:{number}")
            rendered = smollm2.tokenizer.apply_chat_template(
                for_template(messages), tools=tools, tokenize=True, return_dict=False
            )
            assert row.ids.tolist() == rendered
            if tools is None and all(isinstance(m["content"], str) and "tool_calls" not in m for m in messages):
                plain = smollm2.tokenizer.apply_chat_template(
                    messages, chat_template=PLAIN, tokenize=True, return_dict=False
                )
                assert row.ids.tolist() == plain
                compared += 1
                answers = "".join(m["content"] + "<|im_end|>" for m in messages if m["role"] == "assistant")
                assert smollm2.tokenizer.decode(row.ids[row.trained]) == answers
            assert row.ids[row.trained][-1] == smollm2.end_of_turn_id == 2
            rows += 1
    assert rows > 100
    assert compared > 0


@pytest.mark.model
def test_digits_are_tokens_of_their_own(smollm2):
    """transformers' GGUF conversion leaves this step out; the model was trained with it (llama.cpp's `smollm`)."""
    tokens = smollm2.tokenizer.convert_ids_to_tokens(smollm2.tokenizer("a\n\n12").input_ids)
    assert tokens == ["a", "ĊĊ", "1", "2"]


@pytest.mark.model
def test_calls_and_results_are_rendered_and_only_the_calls_trained(smollm2):
    messages = [
        user("tune it"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"ok": true}'},
        assistant("Done."),
    ]
    assert trained_text(smollm2, messages, [TOOL]) == (
        '<tool_call>\n{"name": "tune", "arguments": {"string": "A", "hz": 440}}\n</tool_call><|im_end|>Done.<|im_end|>'
    )
    assert smollm2.turn_text(messages, [TOOL], 1).startswith("<tool_call>")
    text = smollm2.render(messages, [TOOL])
    assert "<tool_response>\n" in text
    assert text.count('"name": "tune"') == 2
