"""How a model of a service is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import RecipeError
from luthier.remote.address import SERVICES, is_remote, read_address

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "base_url", "model", "variable"),
    [
        ("openai:gpt-4o-mini", "https://api.openai.com/v1", "gpt-4o-mini", "OPENAI_API_KEY"),
        ("OpenAI: gpt-4o", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
        ("openai:ft:gpt-4o:org::abc", "https://api.openai.com/v1", "ft:gpt-4o:org::abc", "OPENAI_API_KEY"),
        ("ollama:qwen3:8b", "http://localhost:11434/v1", "qwen3:8b", "OLLAMA_API_KEY"),
        ("http://h:8000/v1#org/model", "http://h:8000/v1", "org/model", "LUTHIER_KEY_H"),
        ("http://127.0.0.1:8000#m", "http://127.0.0.1:8000/v1", "m", "LUTHIER_KEY_127_0_0_1_8000"),
        ("https://a-b.example.com/x/v1/#m", "https://a-b.example.com/x/v1", "m", "LUTHIER_KEY_A_B_EXAMPLE_COM"),
        ("https://h/v1/chat/completions#m", "https://h/v1", "m", "LUTHIER_KEY_H"),
        ("https://api.openai.com/v1#gpt-4o", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
        ("http://[::1]:80/v1#m", "http://[::1]:80/v1", "m", "LUTHIER_KEY_1_80"),
    ],
)
def test_both_notations(text, base_url, model, variable):
    found = read_address(text)
    assert is_remote(text)
    assert (found.base_url, found.model, found.key_variable) == (base_url, model, variable)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("opnai:gpt-4o", "Did you mean openai:gpt-4o?"),
        ("openai:", "Write openai:MODEL"),
        ("http://h/v1", "Write http://h/v1#MODEL"),
        ("http://h/v1#", "Write http://h/v1#MODEL"),
        ("ftp://h/v1#m", "no http or https address"),
        ("http://h:99999/v1#m", "Port out of range"),
        ("llama3:8b", "Services: openai"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(text, said):
    assert is_remote(text)
    with pytest.raises(RecipeError) as caught:
        read_address(text, param="evaluate.judge")
    assert said in str(caught.value)
    assert (caught.value.code, caught.value.param) == ("bad_source", "evaluate.judge")


@pytest.mark.parametrize("text", ["http://me:sk-secret@h/v1#m", "http://h/v1?key=sk-secret#m"])
def test_keys_in_an_address_are_refused_and_not_repeated(text):
    with pytest.raises(RecipeError) as caught:
        read_address(text)
    assert "sk-secret" not in str(caught.value.to_json())


def test_local_names_are_not_taken_for_services(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name").mkdir()
    for text in ("smollm2-135m", "runs/run-1", "org/model", "C:\\models\\x", "odd:name", str(tmp_path)):
        assert not is_remote(text)
    assert all(service.key_variable.endswith("_API_KEY") for service in SERVICES.values())


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_an_error_of_ours(text):
    for candidate in (text, f"http://{text}", f"openai:{text}"):
        try:
            found = read_address(candidate).model
        except RecipeError as error:
            found = error.code
        assert found
