"""Asking a service: what is asked again, for how long, and what is said at the end."""

from __future__ import annotations

import email.utils

import pytest
from fake_service import FakeService, FakeTime, Reply, failed, question, said
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import MissingError, RemoteError
from luthier.remote.address import read_address
from luthier.remote.chat import FIRST_CONTACT_S, ChatRequest, ChatService, Patience
from luthier.remote.retrying import LONGEST_WAIT_S, Stopped, asked_to_wait
from luthier.remote.usage import Usage, cost_usd, price_list, price_of, told_cost

pytestmark = pytest.mark.unit

KEYS = [
    "choices",
    "message",
    "content",
    "refusal",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "finish_reason",
    "usage",
]
KEYS += [
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "error",
    "code",
    "type",
    "param",
    "x",
]
ASKED = ChatRequest(
    [{"role": "user", "content": "Capital of France?"}], max_tokens=5, sampling={"temperature": 0, "seed": 3}
)


def open_service(service, time=None, **patience):
    return ChatService(
        read_address(service.source()), patience=Patience(**patience), clock=(time or FakeTime()).clock()
    )


def test_a_question_is_asked_as_the_api_wants_it():
    with FakeService(lambda body, before: said("Paris")) as service:
        found = open_service(service).ask(ChatRequest(ASKED.messages, max_tokens=5, sampling=ASKED.sampling, key="k1"))
    assert (found.text, found.finish_reason, found.usage) == ("Paris", "stop", Usage(1, 20, 0, 3))
    assert service.asked == [
        {"model": "fake", "messages": list(ASKED.messages), "max_tokens": 5, "temperature": 0, "seed": 3}
    ]
    assert service.headers[0]["idempotency-key"] == "k1"
    assert "authorization" not in service.headers[0]


@pytest.mark.parametrize(
    ("first", "waited"),
    [
        (failed(429, retry_after="7"), 7 * 1.05),
        (failed(429, retry_after_ms="250"), 0.25 * 1.05),
        (failed(503, retry_after=email.utils.formatdate(1_800_000_000 + 90, usegmt=True)), 90 * 1.05),
        (failed(429, retry_after="soon"), 0.375),
        (failed(500), 0.375),
        (failed(408), 0.375),
        (failed(409), 0.375),
        (failed(400, x_should_retry="true"), 0.375),
        (Reply(then="close"), 0.375),
        (Reply(then="cut", body=b'{"choices": ['), 0.375),
        (Reply(body=b""), 0.375),
        (Reply(body=b"<html>", headers={"content-type": "text/html"}), 0.375),
        (Reply(body={}), 0.375),
        (Reply(body={"choices": []}), 0.375),
        (Reply(body=[1]), 0.375),
    ],
)
def test_what_may_pass_is_asked_again_after_the_wait_that_was_asked_for(first, waited):
    time = FakeTime()
    with FakeService(lambda body, before: first if before == 0 else said("Paris")) as service:
        assert open_service(service, time).ask(ASKED).text == "Paris"
    assert len(service.asked) == 2
    assert time.seconds == pytest.approx(waited, abs=0.01)


def test_waits_double_to_a_longest_one_and_the_question_has_one_limit():
    time = FakeTime()
    with FakeService(lambda body, before: failed(500, "try later")) as service, pytest.raises(RemoteError) as caught:
        open_service(service, time, give_up_after_s=200).ask(ASKED)
    assert caught.value.code == "service_failed"
    assert "replied 500" in caught.value.message
    assert "try later" in caught.value.message
    assert f"Given up after {len(service.asked)} attempts" in caught.value.message
    assert caught.value.hint
    assert 200 - LONGEST_WAIT_S <= time.seconds <= 200
    assert max(time.slept) <= 0.5  # a stop is looked for meanwhile


def test_a_wait_past_the_limit_is_not_begun():
    time = FakeTime()
    with (
        FakeService(lambda body, before: failed(429, retry_after="3600")) as service,
        pytest.raises(RemoteError) as caught,
    ):
        open_service(service, time).ask(ASKED)
    assert (len(service.asked), time.seconds) == (1, 0)
    assert "asks to wait another 3780 s, which is past the limit" in caught.value.message
    assert caught.value.code == "rate_limited"


def test_a_stop_ends_the_wait():
    time = FakeTime()
    with FakeService(lambda body, before: failed(500)) as service, pytest.raises(Stopped):
        open_service(service, time).ask(ASKED, lambda: time.seconds > 5)
    assert time.seconds < 7


@pytest.mark.parametrize(
    ("reply", "code", "hint"),
    [
        (failed(401, "Incorrect API key", "invalid_api_key"), "unauthorized", "LUTHIER_KEY_127_0_0_1"),
        (failed(403, "not yours"), "forbidden", "use this model"),
        (failed(429, "no credit", "insufficient_quota"), "quota_exhausted", "credit"),
        (failed(400, "messages: bad role"), "bad_request", "its own words"),
        (failed(501, x_should_retry="false"), "service_failed", ""),
        (Reply(307, {}, {"location": "http://elsewhere.example/v1/chat/completions"}), "redirected", "redirects"),
    ],
)
def test_what_cannot_pass_is_said_at_once(reply, code, hint):
    with FakeService(lambda body, before: reply) as service, pytest.raises(RemoteError) as caught:
        open_service(service).ask(ASKED)
    assert len(service.asked) == 1
    assert caught.value.code == code
    assert hint in str(caught.value.hint)
    assert str(reply.status) in caught.value.message
    assert caught.value.exit_code == 4


def test_an_unknown_model_is_told_with_the_nearest_one():
    missing = failed(404, "The model `fake` does not exist", "model_not_found")
    with (
        FakeService(lambda body, before: missing, models=["other", "fake-7b"]) as service,
        pytest.raises(RemoteError) as caught,
    ):
        open_service(service).ask(ASKED)
    assert caught.value.code == "model_not_found"
    assert caught.value.hint == "Did you mean 'fake-7b'?"


def test_replies_that_are_none_are_not_paid_for_without_end():
    with FakeService(lambda body, before: Reply(body={"hello": 1})) as service, pytest.raises(RemoteError) as caught:
        open_service(service).ask(ASKED)
    assert len(service.asked) == 3
    assert caught.value.code == "bad_reply"
    assert "/v1" in str(caught.value.hint)


def test_a_service_that_was_never_reached_is_given_up_soon():
    with FakeService(lambda body, before: said("")) as service:
        source = service.source()
    time = FakeTime()
    with pytest.raises(RemoteError) as caught:
        ChatService(read_address(source), clock=time.clock()).ask(ASKED)
    assert caught.value.code == "unreachable"
    assert time.seconds <= FIRST_CONTACT_S


def test_a_service_that_says_nothing_is_not_waited_for_without_end():
    time = FakeTime()

    def silent(body, before):
        if before == 0:
            import time as real

            real.sleep(0.6)
        return said("Paris")

    with FakeService(silent) as service:
        assert open_service(service, time, timeout_s=0.2).ask(ASKED).text == "Paris"
    assert len(service.asked) >= 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (failed(400, "This model's maximum context length is 8 tokens.", "context_length_exceeded"), "too long"),
        (failed(400, "maximum context length is 4096 tokens"), "too long"),
        (failed(413, "big"), "too long"),
        (failed(400, "flagged", "content_filter"), "content filter"),
        (failed(400, "triggered Azure OpenAI's content management policy"), "content filter"),
        (said("half an", finish_reason="content_filter"), "content filter"),
    ],
)
def test_a_question_that_is_refused_is_an_answer_of_its_own_kind(reply, kind):
    with FakeService(lambda body, before: reply) as service:
        found = open_service(service).ask(ASKED)
    assert (found.text, found.finish_reason) == ("", "refused")
    assert kind in str(found.refusal)
    assert len(service.asked) == 1


def test_a_models_own_refusal_is_its_answer():
    with FakeService(lambda body, before: said(None, refusal="I must not.")) as service:
        found = open_service(service).ask(ASKED)
    assert (found.finish_reason, found.refusal) == ("stop", "I must not.")


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        (
            failed(400, "Unsupported value: 'temperature' does not support 0", "unsupported_value", "temperature"),
            "temperature",
        ),
        (failed(400, "seed is not supported"), "seed"),
        (failed(400, "json_schema is unavailable for this model"), "response_format"),
        (failed(422, "Extra inputs are not permitted: seed"), "seed"),
    ],
)
def test_a_setting_that_is_not_taken_is_left_out_from_then_on(reply, left):
    with FakeService(lambda body, before: reply if left in body else said("Paris")) as service:
        chat = open_service(service)
        asked = ChatRequest(ASKED.messages, sampling=ASKED.sampling, response_schema={"type": "object"})
        assert chat.ask(asked).text == "Paris"
        assert chat.ask(asked).text == "Paris"
    assert chat.left_out == {left}
    assert len(service.asked) == 3


def test_the_limit_of_tokens_is_spelled_as_the_model_wants_it():
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    reply = failed(400, words, "unsupported_parameter", "max_tokens")
    with FakeService(lambda body, before: reply if "max_tokens" in body else said("Paris")) as service:
        chat = open_service(service)
        assert chat.ask(ASKED).text == "Paris"
        assert chat.ask(ASKED).text == "Paris"
    assert [each.get("max_completion_tokens") for each in service.asked] == [None, 5, 5]


def test_a_key_is_read_from_the_environment_and_never_said(monkeypatch, capfd):
    secret = "sk-canary-123456"
    with FakeService(lambda body, before: failed(401, f"Incorrect API key provided: {secret}")) as service:
        address = read_address(service.source())
        monkeypatch.setenv(address.key_variable, secret)
        monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
        with pytest.raises(RemoteError) as caught:
            ChatService(address).ask(ASKED)
    assert service.headers[0]["authorization"] == f"Bearer {secret}"
    assert "openai-organization" not in service.headers[0]
    assert secret not in f"{caught.value.to_json()} {caught.value!r} {address} {capfd.readouterr()}"
    assert caught.value.__cause__ is None


def test_another_services_key_is_not_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with FakeService(lambda body, before: said("Paris")) as service:
        open_service(service).ask(ASKED)
    assert "sk-openai" not in str(service.headers)


def test_a_service_that_needs_a_key_says_which_variable_holds_it(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(MissingError) as caught:
        ChatService(read_address("openai:gpt-4o"))
    assert (caught.value.code, caught.value.param) == ("no_key", "OPENAI_API_KEY")


def test_without_the_client_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MissingError) as caught:
        ChatService(read_address("http://h/v1#m"))
    assert caught.value.hint == "pip install 'luthier[remote]'"


def test_the_words_of_a_service_cannot_write_on_the_terminal():
    reply = failed(400, "\x1b[31mred\x1b]0;x\x07 " + "x" * 900)
    with FakeService(lambda body, before: reply) as service, pytest.raises(RemoteError) as caught:
        open_service(service).ask(ASKED)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@given(st.text(max_size=30), st.floats(0, 2e9))
def test_any_retry_after_is_a_wait_or_none(text, wall):
    found = asked_to_wait({"retry-after": text}, wall)
    assert found is None or found >= 0


# What it costs -------------------------------------------------------------------------------------------------------


def test_prices_are_dated_and_have_a_source():
    prices = price_list()
    assert prices.as_of.year >= 2026
    assert "litellm" in prices.source
    for models in prices.services.values():
        assert all(price.cached <= price.prompt <= price.completion for price in models.values())


def test_a_cost_is_that_of_fresh_cached_and_answered_tokens():
    price = price_of(read_address("openai:gpt-4o-mini-2024-07-18"))
    assert price is not None
    assert cost_usd(Usage(2, 1_000_000, 400_000, 100_000), price) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075 + 0.06)
    told = told_cost(read_address("openai:gpt-4o-mini"), Usage(2, 1_000_000, 400_000, 100_000))
    assert "0.1800 US dollars by prices of 2026-" in told
    assert "(400,000 of them cached)" in told


def test_of_an_unknown_model_tokens_alone_are_told():
    told = told_cost(read_address("http://h/v1#gpt-4o-mini"), Usage(3, 60, 0, 9, uncounted=1))
    assert "what they cost is not known" in told
    assert "counted no tokens for 1 of the replies" in told
    assert "dollars" not in told


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


def test_no_body_is_more_than_a_reply_or_an_error_of_ours():
    with FakeService(lambda body, before: Reply(current[0], current[1])) as service:
        chat = open_service(service, give_up_after_s=0)

        @settings(max_examples=80)
        @given(st.sampled_from([200, 200, 400, 404, 422, 429, 500]), JSON)
        def ask(status, body):
            current[:] = [status, body]
            try:
                found = chat.ask(ASKED).finish_reason
            except RemoteError as error:
                found = error.code
            assert found

        current: list[object] = [200, None]
        ask()


def test_counts_that_are_none_are_no_zeros():
    with FakeService(lambda body, before: said("x", usage=None)) as service:
        assert open_service(service).ask(ASKED).usage == Usage(1, uncounted=1)
    assert question(service.asked[0]) == "Capital of France?"
