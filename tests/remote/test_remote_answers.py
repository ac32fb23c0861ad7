"""A service's model as a source of answers: side by side, resumed, refused, told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_service import FakeService, FakeTime, failed, question, said

from luthier.errors import Interrupted, ModelError, RecipeError, RemoteError
from luthier.evaluate.graders import ExactGrader, ToolCallsGrader, grade_answers
from luthier.evaluate.runner import LocalModel, collect_answers, draws_of
from luthier.evaluate.samples import Answer, Sample
from luthier.recipe_io import load_recipe
from luthier.remote.address import read_address
from luthier.remote.chat import ChatService
from luthier.runs import no_listener, read_lines
from luthier.stages.sources import RemoteModel, SourceSettings, open_source, source_name

pytestmark = pytest.mark.unit


def samples(count: int) -> list[Sample]:
    return [
        Sample(f"id{number}", [{"role": "user", "content": f"Question {number}"}], f"answer {number}")
        for number in range(count)
    ]


def echo(body, before):
    return said(question(body).replace("Question", "answer"))


def open_fake(service, **settings) -> RemoteModel:
    chat = ChatService(read_address(service.source()), clock=FakeTime().clock())
    return RemoteModel(chat, SourceSettings(max_new_tokens=9, **settings))


def collect(source, rows, folder, **more):
    return collect_answers(source, rows, folder, listener=no_listener, **more)


def test_rows_are_answered_side_by_side_and_in_their_order(tmp_path):
    with FakeService(echo, delay_s=0.02) as service:
        source = open_fake(service, concurrency=4)
        answers = collect(source, samples(20), tmp_path)
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(20)]
    assert 1 < service.most_at_once <= 4
    assert {answer.prompt_tokens for answer in answers} == {20}
    assert {answer.num_tokens for answer in answers} == {3}
    assert all(body["temperature"] == 0 and body["max_tokens"] == 9 for body in service.asked)
    assert len({headers["idempotency-key"] for headers in service.headers}) == 20


def test_draws_have_seeds_of_their_own_that_stay_the_same(tmp_path):
    with FakeService(echo) as service:
        for name in ("one", "two"):
            collect(open_fake(service, temperature=0.7, seed=5), draws_of(samples(3), 2), tmp_path / name)
    seeds = [body["seed"] for body in service.asked]
    assert len(set(seeds)) == 6
    assert Counter(seeds) == dict.fromkeys(seeds, 2)


def test_messages_are_sent_as_services_take_them(tmp_path):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    prompt = [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": "Yes", "weight": 0},
        {"role": "user", "content": "Go"},
    ]
    with FakeService(echo) as service:
        collect(open_fake(service), [Sample("a", prompt, "x", tools)], tmp_path)
    assert service.asked[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Go"},
    ]
    assert service.asked[0]["tools"] == tools


def test_function_calls_are_read_by_the_grader_of_calls(tmp_path):
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    target = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    with FakeService(lambda body, before: said(None, tool_calls=[call], finish_reason="tool_calls")) as service:
        answers = collect(open_fake(service), [Sample("a", [{"role": "user", "content": "?"}], target)], tmp_path)
    assert ToolCallsGrader().grade(target, answers[0].text).score == 1.0


def test_a_finished_collection_asks_nothing_again(tmp_path):
    with FakeService(echo) as service:
        first = collect(open_fake(service), samples(5), tmp_path)
        again = collect(open_fake(service), samples(5), tmp_path)
    assert again == first
    assert len(service.asked) == 5


def test_a_failure_in_the_middle_keeps_what_was_answered_and_goes_on_from_there(tmp_path):
    broken = True

    def sometimes(body, before):
        return failed(401, "expired") if broken and len(service.asked) > 6 else echo(body, before)

    with FakeService(sometimes) as service:
        with pytest.raises(RemoteError) as caught:
            collect(open_fake(service, concurrency=3), samples(12), tmp_path)
        kept = {line["id"] for line in read_lines(next(tmp_path.glob("remote_*.jsonl")))[1:]}
        asked_before = len(service.asked)
        broken = False
        answers = collect(open_fake(service, concurrency=3), samples(12), tmp_path)
    assert caught.value.code == "unauthorized"
    assert len(kept) == 6
    assert len(service.asked) - asked_before == 12 - len(kept)
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(12)]


def test_a_stop_waits_for_what_is_under_way_and_keeps_it(tmp_path):
    with FakeService(echo, delay_s=0.02) as service:
        source = open_fake(service, concurrency=2)
        with pytest.raises(Interrupted):
            collect(source, samples(50), tmp_path, stop_requested=lambda: len(service.asked) >= 6)
    kept = len(read_lines(tmp_path / f"{source.name}.jsonl")) - 1
    assert kept == len(service.asked) < 50


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_remote_answers import collect, samples
from luthier.stages.sources import SourceSettings, open_source
print("begins", flush=True)
collect(open_source({source!r}, SourceSettings(max_new_tokens=9, concurrency=4)), samples(40), Path({folder!r}))
"""


def test_a_killed_process_goes_on_without_asking_again_what_was_answered(tmp_path):
    with FakeService(echo, delay_s=0.03) as service:
        script = KILLED.format(tests=str(Path(__file__).parent), source=service.source(), folder=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        file = tmp_path / f"{source_name('remote', service.source())}.jsonl"
        until = time.monotonic() + 300
        while not (file.exists() and file.read_bytes().count(b"\n") > 12) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        written = {line["id"] for line in read_lines(file)[1:]}
        answers = collect(
            open_source(service.source(), SourceSettings(max_new_tokens=9, concurrency=4)), samples(40), tmp_path
        )
    assert process.returncode == -signal.SIGKILL
    assert 12 <= len(written) < 40
    times = Counter(question(body) for body in service.asked)
    assert all(times[f"Question {key.removeprefix('id')}"] == 1 for key in written)
    assert sum(times.values()) <= 40 + 4  # what was under way is asked again, with the same key
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(40)]
    keys: dict[str, set[str]] = {}
    for body, headers in zip(service.asked, service.headers, strict=True):
        keys.setdefault(question(body), set()).add(headers["idempotency-key"])
    assert all(len(found) == 1 for found in keys.values())


def test_what_a_service_refuses_has_no_score_and_is_told(tmp_path):
    def picky(body, before):
        if question(body) == "Question 1":
            return failed(400, "maximum context length is 8 tokens", "context_length_exceeded")
        return said("half", finish_reason="content_filter") if question(body) == "Question 2" else echo(body, before)

    with FakeService(picky) as service:
        source = open_fake(service)
        answers = collect(source, samples(4), tmp_path)
        again = collect(open_fake(service), samples(4), tmp_path)
    assert again == answers
    assert len(service.asked) == 4
    grades = grade_answers(ExactGrader(), [sample.target for sample in samples(4)], answers)
    assert [grade.score for grade in grades] == [1.0, None, None, 1.0]
    assert grades[1].reason == "could not be answered: too long for the model"
    notes = source.notes(answers)
    assert "2 rows could not be answered" in notes[1]
    assert "3 replies, 60 tokens asked" in notes[0]  # a refused prompt is not counted, a cut answer is


def test_notes_tell_what_the_service_does_not_take(tmp_path):
    with FakeService(
        lambda body, before: failed(400, "seed is not supported") if "seed" in body else said("x")
    ) as service:
        source = open_fake(service)
        answers = collect(source, samples(2), tmp_path)
    assert "does not take seed: its answers may differ from run to run" in source.notes(answers)[-1]


def test_an_answers_file_of_before_is_read(tmp_path):
    with FakeService(echo) as service:
        source = open_fake(service)
        collect(source, samples(3), tmp_path)
        file = tmp_path / f"{source.name}.jsonl"
        lines = read_lines(file)
        old = [{key: line[key] for key in ("id", "text", "num_tokens", "finish_reason")} for line in lines[1:]]
        file.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], *old]))
        assert collect(source, samples(3), tmp_path)[0] == Answer("id0", "answer 0", 3, "stop")
    assert len(service.asked) == 3


def test_other_settings_are_other_answers():
    def identity(**settings):
        chat = ChatService(read_address("http://127.0.0.1:1/v1#m"))
        return RemoteModel(chat, SourceSettings(**{"max_new_tokens": 9} | settings)).identity

    assert len({identity(), identity(max_new_tokens=8), identity(temperature=0.5), identity(seed=3)}) == 4
    assert identity() == identity(concurrency=2)


def test_names_of_files_are_safe_and_differ():
    names = [
        source_name("remote", text)
        for text in ("http://h/v1#a/b", "http://h/v1#a-b", "../../x", "", "\udcff", "x" * 900)
    ]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name) < 100 for name in names)


def test_settings_are_the_recipes():
    recipe = load_recipe(["evaluate.max_new_tokens=7", "evaluate.concurrency=3", "seed=9"]).recipe
    assert SourceSettings.of(recipe) == SourceSettings(7, seed=9, concurrency=3)
    drawn = load_recipe(["evaluate.max_new_tokens=7", "evaluate.samples=3", "evaluate.temperature=0.5"]).recipe
    assert SourceSettings.of(drawn).temperature == 0.5


def test_local_names_are_sources_too(tiny_model_folder, tmp_path):
    source = open_source(str(tiny_model_folder), SourceSettings(max_new_tokens=4))
    assert isinstance(source, LocalModel)
    assert len(collect(source, samples(2), tmp_path)) == 2
    with pytest.raises(ModelError):
        open_source("no-such-model", SourceSettings(max_new_tokens=4))
    with pytest.raises(RecipeError) as caught:
        open_source("opnai:gpt", SourceSettings(max_new_tokens=4))
    assert caught.value.param == "--against"
    assert json.dumps(caught.value.to_json())
