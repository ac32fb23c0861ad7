"""Judges by name: services and local models, their verdicts on disk, people's labels, and pairs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest
from fake_service import FakeService, Reply, failed, question, said

from luthier.errors import EvaluateError, Interrupted, ModelError, RecipeError, RemoteError
from luthier.evaluate.graders import choose_grader, open_grader
from luthier.evaluate.graders.pairwise_grader import FIRST_SHARE, FLIP_RATE, WON, PairwiseGrader
from luthier.evaluate.judge import JudgeReply, JudgeRequest, asked_in_words, result_schema
from luthier.evaluate.judge_cache import CachedJudge
from luthier.evaluate.judge_labels import read_labels
from luthier.evaluate.samples import Answer, Sample
from luthier.recipe import Recipe
from luthier.recipe_io import dump_recipe, load_recipe
from luthier.remote.chat import Patience
from luthier.report.judged import Judged
from luthier.runs import no_listener, read_lines
from luthier.stages.judging import VERDICTS, calibrate, find_judge, grade_models, judged_in_pairs, open_judge

pytestmark = pytest.mark.unit

TONE = {
    "type": "label_model",
    "name": "tone",
    "model": "whoever",
    "input": [{"role": "user", "content": "Is this right? {{sample.output_text}}"}],
    "labels": ["yes", "no"],
    "passing_labels": ["yes"],
}
ROWS = [Sample(f"id{n}", [{"role": "user", "content": f"Q{n}"}], f"right {n}", item={"n": n}) for n in range(6)]


def answers(words: str) -> list[Answer]:
    return [Answer(sample.id, f"{words} {n}", 2, "stop") for n, sample in enumerate(ROWS)]


def verdict(text: str, **more) -> Reply:
    return said(json.dumps({"steps": [], "result": text}), **more)


def yes_to_right(body, before):
    return verdict("yes" if "right" in question(body).split("?")[1].split("\n")[0] else "no")


def recipe_for(service, grader=TONE, **more) -> Recipe:
    lines = [
        f"evaluate.grader={json.dumps(grader)}",
        f"evaluate.judge={service if isinstance(service, str) else service.source()}",
    ]
    return load_recipe([*lines, *(f"evaluate.{name}={value}" for name, value in more.items())]).recipe


def opened(recipe: Recipe, folder: Path):
    judge = open_judge(recipe, folder, no_listener, patience=Patience(give_up_after_s=0.1))
    assert judge is not None
    return judge, choose_grader(recipe.evaluate, [], judge=judge.judge)[0]


def test_a_service_judges_and_is_not_asked_twice(tmp_path):
    with FakeService(yes_to_right) as service:
        recipe = recipe_for(service)
        judge, grader = opened(recipe, tmp_path)
        judged = Judged.of(grader, ROWS, answers("right"), workers=4)
        other = Judged.of(grader, ROWS, answers("wrong"), workers=4)
        assert len(service.asked) == 12
        again, grader = opened(recipe, tmp_path)
        assert Judged.of(grader, ROWS, answers("right")).scores == judged.scores
        assert len(service.asked) == 12
    assert set(judged.scores.values()) == {1.0}
    assert set(other.scores.values()) == {0.0}
    assert judged.metrics["passed by the judge (uncalibrated)"] == 1.0
    assert judge.notes()[0] == f"Answers were judged by {service.source()}."
    assert "12 replies, 240 tokens asked" in judge.notes()[1]
    assert "6 replies, 120 tokens asked" in again.notes()[1]
    body = service.asked[0]
    assert (body["temperature"], body["seed"]) == (0, 1)
    assert body["response_format"]["json_schema"]["schema"] == result_schema({"type": "string", "enum": ["yes", "no"]})
    assert 'one of "yes", "no"' in question(body)  # where schemas are passed over in silence
    assert len(read_lines(tmp_path / VERDICTS)) == 12


def test_verdicts_are_another_ones_with_another_judge_or_seed(tmp_path):
    with FakeService(yes_to_right, models=[]) as service:
        for lines in ([], ["seed=2"], ["seed=2"]):
            recipe = load_recipe(
                [f"evaluate.grader={json.dumps(TONE)}", f"evaluate.judge={service.source()}", *lines]
            ).recipe
            Judged.of(opened(recipe, tmp_path)[1], ROWS[:1], answers("right")[:1])
    assert len(service.asked) == 2


def test_the_same_question_of_several_threads_is_asked_once(tmp_path):
    with FakeService(yes_to_right, delay_s=0.05) as service:
        _, grader = opened(recipe_for(service), tmp_path)
        same = [Answer(sample.id, "right", 1, "stop") for sample in ROWS]
        assert set(Judged.of(grader, ROWS, same, workers=6).scores.values()) == {1.0}
    assert len(service.asked) == 1


def test_a_torn_line_of_a_killed_process_is_asked_again_and_nothing_else(tmp_path):
    with FakeService(yes_to_right) as service:
        _, grader = opened(recipe_for(service), tmp_path)
        Judged.of(grader, ROWS, answers("right"))
        file = tmp_path / VERDICTS
        file.write_bytes(file.read_bytes()[:-9])
        _, grader = opened(recipe_for(service), tmp_path)
        Judged.of(grader, ROWS, answers("right"))
    assert len(service.asked) == 7
    assert len(read_lines(file)) == 6


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said("I think it is fine."), "the judge gave none of its labels"),
        (said('{"steps": [], "resul'), "the judge gave none of its labels"),
        (said(None, refusal="I must not."), "the judge refused: I must not."),
        (failed(400, "flagged", "content_filter"), "the judge refused: refused by the service's content filter"),
        (failed(400, "odd question"), "the judge did not answer"),
    ],
)
def test_a_row_that_was_not_judged_has_no_score(tmp_path, reply, reason):
    with FakeService(lambda body, before: reply) as service:
        _, grader = opened(recipe_for(service), tmp_path)
        judged = Judged.of(grader, ROWS[:1], answers("right")[:1])
    assert judged.scores == {"id0": None}
    assert reason in str(judged.grades[0].reason)


@pytest.mark.parametrize(
    ("reply", "said_"), [(failed(401, "bad key"), "replied 401"), (failed(503, "down"), "Given up after")]
)
def test_a_judge_that_cannot_be_asked_ends_the_evaluation_and_keeps_its_verdicts(tmp_path, reply, said_):
    down = False
    with FakeService(lambda body, before: reply if down else yes_to_right(body, before)) as service:
        _, grader = opened(recipe_for(service), tmp_path)
        Judged.of(grader, ROWS[:2], answers("right")[:2])
        down = True
        with pytest.raises(EvaluateError) as caught:
            Judged.of(grader, ROWS, answers("right"), workers=3)
    assert caught.value.code == "judge_unusable"
    assert said_ in caught.value.message
    assert "is kept" in str(caught.value.hint)
    assert len(read_lines(tmp_path / VERDICTS)) == 2


@pytest.mark.parametrize(
    "grader", ["pairwise", TONE, {"type": "multi", "graders": {"a": TONE}, "calculate_output": "a"}]
)
def test_a_grader_that_asks_a_model_is_refused_when_the_recipe_has_none(grader):
    given = grader if isinstance(grader, str) else json.dumps(grader)
    with pytest.raises(RecipeError) as caught:
        load_recipe([f"evaluate.grader={given}"])
    assert caught.value.param == "evaluate.judge"
    assert "asks a model" in caught.value.message
    with pytest.raises(EvaluateError) as missing:
        open_grader(grader)
    assert (missing.value.code, missing.value.param) == ("no_judge", "evaluate.judge")
    assert "evaluate.judge=openai:" in str(missing.value.hint)


def test_a_judge_is_opened_without_being_asked_or_loaded(tmp_path, tiny_model_folder):
    assert open_judge(Recipe(), tmp_path, no_listener) is None
    assert find_judge(Recipe(), no_listener) is None
    judge, _ = opened(recipe_for(str(tiny_model_folder)), tmp_path)
    assert judge.notes() == [f"Answers were judged by {tiny_model_folder}."]
    with pytest.raises(RecipeError) as caught:
        opened(recipe_for("opnai:gpt-4o"), tmp_path)
    assert caught.value.param == "evaluate.judge"
    with pytest.raises(ModelError):
        opened(recipe_for("no-such-model"), tmp_path)


# A local judge -------------------------------------------------------------------------------------------------------


def test_a_local_model_that_says_nothing_of_use_scores_nothing(tmp_path, tiny_model_folder):
    grader = TONE | {"sampling_params": {"max_completions_tokens": 4}}
    recipe = recipe_for(str(tiny_model_folder), grader)
    judge, opened_grader = opened(recipe, tmp_path)
    judged = Judged.of(opened_grader, ROWS, answers("right"), workers=4)
    assert set(judged.scores.values()) == {None}
    assert "gave none of its labels" in str(judged.grades[0].reason)
    assert judge.judge.num_asked == 6
    again, opened_grader = opened(recipe, tmp_path)
    Judged.of(opened_grader, ROWS, answers("right"))
    assert again.judge.num_asked == 0


def test_what_does_not_fit_a_local_judge_is_that_rows_own_failure(tmp_path, tiny_model_folder):
    grader = TONE | {"sampling_params": {"max_completions_tokens": 4}}
    _, opened_grader = opened(recipe_for(str(tiny_model_folder), grader), tmp_path)
    given = [Answer("id0", "right", 1, "stop"), Answer("id1", "long " * 400, 1, "stop")]
    judged = Judged.of(opened_grader, ROWS[:2], given, workers=2)
    assert "gave none of its labels" in str(judged.grades[0].reason)
    assert "fit its context" in str(judged.grades[1].reason)


def test_a_local_judge_that_cannot_be_loaded_ends_the_evaluation(tmp_path, tiny_model_folder):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_model_folder, folder)
    for weights in folder.glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:100])
    _, opened_grader = opened(recipe_for(str(folder)), tmp_path)
    with pytest.raises(EvaluateError) as caught:
        Judged.of(opened_grader, ROWS, answers("right"), workers=3)
    assert caught.value.code == "judge_unusable"


# What a reply says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"steps": [], "result": "yes"}', "yes"),
        ('```json\n{"result": 3}\n```', 3),
        ('Sure! {"steps": [{"description": "a", "conclusion": "b"}], "result": "no"} Hope it helps.', "no"),
        ('{"result": "yes"} {"result": "yes"}', "yes"),
        ('{"result": "yes"} or {"result": "no"}', None),
        ('{"result": 1} or {"result": true}', None),
        ('{"steps": [{"result": "yes"}, {"description": "cut', None),
        ('{not json} {"result": "yes"}', "yes"),
        ('{"steps": []}', None),
        ("", None),
        ("{" * 5_000, None),
        ("no braces", None),
    ],
)
def test_a_reply_is_read_leniently_and_not_guessed_at(text, result):
    assert JudgeReply(text).result == result


def test_words_for_the_form_go_into_the_users_last_message():
    schema = result_schema({"type": "number"})
    asked = asked_in_words([{"role": "user", "content": "How good?"}], schema)
    assert asked[0]["content"].startswith("How good?")
    assert "The result is a number." in asked[0]["content"]
    assert asked_in_words([{"role": "system", "content": "s"}], schema)[-1]["role"] == "user"
    assert asked_in_words([], None) == []


class Slow:
    """A judge that fails the first time, while others wait for its reply."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_reply = threading.Event()

    def ask(self, request: JudgeRequest) -> JudgeReply:
        self.asked += 1
        self.may_reply.wait(5)
        if self.asked == 1:
            raise RemoteError("down", code="unreachable")
        return JudgeReply("yes")


def test_a_failure_is_not_kept(tmp_path):
    slow = Slow()
    slow.may_reply.set()
    judge = CachedJudge(slow, "me", tmp_path / "judge.jsonl")
    request = JudgeRequest([{"role": "user", "content": "?"}], "m")
    with pytest.raises(RemoteError):
        judge.ask(request)
    assert judge.ask(request).text == "yes"
    assert CachedJudge(slow, "me", tmp_path / "judge.jsonl").ask(request).text == "yes"
    assert slow.asked == 2
    CachedJudge(slow, "another", tmp_path / "judge.jsonl").ask(request)
    assert slow.asked == 3


# People's labels -----------------------------------------------------------------------------------------------------


def labels(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_correct_the_judges_share(tmp_path):
    # the judge passes 25 of 30 right and 5 of 30 wrong answers
    rows = [{"id": "id0", "answer": f"{'right' if n < 25 else 'odd'} {n}", "label": True} for n in range(30)]
    rows += [
        {"item": {"n": n}, "answer": f"{'right' if n < 35 else 'odd'} {n}", "label": "wrong"} for n in range(30, 60)
    ]
    file = labels(tmp_path / "labels.jsonl", rows)
    with FakeService(yes_to_right) as service:
        recipe = recipe_for(service, judge_labels=file)
        _, grader = opened(recipe, tmp_path)
        told = calibrate(grader, recipe, ROWS, None, no_listener)
        judged = Judged.of(grader, ROWS, answers("right"))
        assert len(service.asked) == 60 + 6 - sum(f"right {n}" in {a.text for a in answers("right")} for n in range(60))
    assert "both judged 60 answers; it passes 83% of what people found right; it fails 83%" in told[0]
    assert judged.metrics["passed by the judge (as judged)"] == 1.0
    assert judged.metrics["passed by the judge (corrected)"] == 1.0
    assert judged.metrics["passed by the judge (corrected, low)"] < 1.0
    assert not any("uncalibrated" in name for name in judged.metrics)


def test_too_few_labels_leave_the_number_uncalibrated(tmp_path):
    file = labels(tmp_path / "labels.jsonl", [{"id": "id0", "answer": "right", "label": 1}] * 20)
    with FakeService(yes_to_right) as service:
        recipe = recipe_for(service, judge_labels=file)
        _, grader = opened(recipe, tmp_path)
        calibrate(grader, recipe, ROWS, None, no_listener)
        judged = Judged.of(grader, ROWS, answers("right"))
    assert "passed by the judge (uncalibrated)" in judged.metrics


@pytest.mark.parametrize(
    ("row", "said_"),
    [
        ({"id": "nobody", "answer": "a", "label": True}, ":1: no test row has the id 'nobody'"),
        ({"id": "id0", "answer": "a", "label": "maybe"}, ":1: `label` is 'maybe'"),
        ({"id": "id0", "answer": "a"}, ":1: `label` is None"),
        ({"id": "id0", "answer": "a", "label": []}, ":1: `label` is []"),
        ({"answer": "a", "label": 1}, ":1: there is neither"),
        ({"id": "id0", "answer": 3, "label": 1}, ":1: `answer` is not a text"),
        ([], ":1: a line is one object"),
    ],
)
def test_a_wrong_label_is_told_with_its_line(tmp_path, row, said_):
    file = labels(tmp_path / "labels.jsonl", [row])
    with FakeService(yes_to_right) as service:
        recipe = recipe_for(service, judge_labels=file)
        _, grader = opened(recipe, tmp_path)
        with pytest.raises(EvaluateError) as caught:
            calibrate(grader, recipe, ROWS, None, no_listener)
    assert said_ in caught.value.message
    assert caught.value.param == "evaluate.judge_labels"


def test_without_labels_it_is_said(tmp_path):
    with FakeService(yes_to_right) as service:
        recipe = recipe_for(service)
        _, grader = opened(recipe, tmp_path)
        assert "Uncalibrated" in calibrate(grader, recipe, ROWS, None, no_listener)[0]
        multi = recipe_for(service, {"type": "multi", "graders": {"a": TONE}, "calculate_output": "a"})
        assert "Uncalibrated" in calibrate(opened(multi, tmp_path)[1], multi, ROWS, None, no_listener)[0]
        assert calibrate(open_grader("exact"), recipe, ROWS, None, no_listener) == []
        gone = recipe_for(service, judge_labels=tmp_path / "gone.jsonl")
        with pytest.raises(EvaluateError) as caught:  # before anything is asked, or trained
            find_judge(gone, no_listener)
    assert caught.value.code == "labels_not_readable"


PAGE = (Path(__file__).parents[2] / "docs" / "remote-and-judges.md").read_text("utf-8")


def test_the_pages_labels_and_python_are_as_they_should_be(tmp_path):
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "labels.jsonl").write_text(block)
    found = read_labels(tmp_path / "labels.jsonl", [Sample("4f1c…", [], "Paris")])
    assert [(each.target, each.answer, each.right) for each in found] == [
        ("Paris", "Paris", True),
        ("Rome", "Milan", False),
    ]
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - our own page
    assert names["source"].title == "http://localhost:8000/v1#my-model"


# Pairs ---------------------------------------------------------------------------------------------------------------


def prefers(word):
    def answer(body, before):
        text = body["messages"][1]["content"]
        first = text.split("<first>\n")[1].split("\n")[0]
        return verdict(word if word in ("first", "second") else "first" if word in first else "second")

    return answer


@pytest.mark.parametrize(
    ("judge", "score", "flips", "first"), [(prefers("right"), 1.0, 0.0, 0.5), (prefers("first"), 0.5, 1.0, 1.0)]
)
def test_pairs_are_judged_in_both_orders_against_the_base(tmp_path, judge, score, flips, first):
    with FakeService(judge) as service:
        _, grader = opened(recipe_for(service, "pairwise"), tmp_path)
        assert isinstance(grader, PairwiseGrader)
        given = {"base": answers("wrong"), "fine-tuned": answers("right")}
        judged = judged_in_pairs(grader, ROWS, given, workers=4)
    assert len(service.asked) == 12
    assert set(judged["base"].scores.values()) == {0.5}
    assert set(judged["fine-tuned"].scores.values()) == {score}
    assert judged["fine-tuned"].metrics == {WON: score, FLIP_RATE: flips, FIRST_SHARE: first}
    assert any("<expected>\nright 0\n" in body["messages"][1]["content"] for body in service.asked)


def test_equal_answers_are_a_tie_that_nobody_pays_for_and_refused_ones_have_no_score(tmp_path):
    with FakeService(prefers("right")) as service:
        _, grader = opened(recipe_for(service, {"type": "pairwise", "name": "taste", "show_expected": False}), tmp_path)
        tuned = answers("right")
        tuned[1] = Answer("id1", "", 0, "refused", refusal="too long for the model: 9 tokens")
        tuned[2] = answers("wrong")[2]
        found = judged_in_pairs(grader, ROWS, {"base": answers("wrong"), "fine-tuned": tuned})["fine-tuned"]
        same = judged_in_pairs(grader, ROWS, {"base": answers("a"), "x": answers("a")})["x"]
    assert grader.name == "taste"
    assert list(found.scores.values()) == [1.0, None, 0.5, 1.0, 1.0, 1.0]
    assert found.grades[1].reason == "could not be answered: too long for the model"
    assert len(service.asked) == 8
    assert "<expected>" not in service.asked[0]["messages"][1]["content"]
    assert set(same.scores.values()) == {0.5}
    assert grader.grade("a", "b").score is None


def test_one_call_grades_all_models_whatever_the_grader(tmp_path):
    given = {"base": answers("wrong"), "few": answers("right"), "fine-tuned": answers("right")}
    with FakeService(prefers("right")) as service:
        recipe = recipe_for(service, "pairwise")
        judge, grader = opened(recipe, tmp_path)
        paired = grade_models(grader, recipe, ROWS, given, judge=judge)
    exact = grade_models(open_grader("exact"), Recipe(), ROWS, given)
    assert {name: each.scores["id0"] for name, each in paired.items()} == {"base": 0.5, "few": 1.0, "fine-tuned": 1.0}
    assert {name: each.scores["id0"] for name, each in exact.items()} == {"base": 0.0, "few": 1.0, "fine-tuned": 1.0}
    assert len(service.asked) == 12  # the same pair of another model is the same question


def test_ctrl_c_ends_the_asking_and_keeps_what_was_said(tmp_path):
    once = threading.Lock()

    def stops(body, before):
        if len(service.asked) >= 3 and once.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        return yes_to_right(body, before)

    with FakeService(stops, delay_s=0.02) as service:
        recipe = recipe_for(service, judge_concurrency=2)
        judge, grader = opened(recipe, tmp_path)
        rows = [Sample(f"id{n}", [], "") for n in range(40)]
        given = {"base": [Answer(row.id, f"right {row.id}", 1, "stop") for row in rows]}
        with pytest.raises(Interrupted):
            grade_models(grader, recipe, rows, given, judge=judge)
        kept = len(read_lines(tmp_path / VERDICTS))
        assert 3 <= kept == len(service.asked) < 10
        judge, grader = opened(recipe, tmp_path)
        assert grade_models(grader, recipe, rows, given, judge=judge)["base"].scores["id39"] == 1.0
    assert len(service.asked) == 40


def test_several_answers_a_row_are_compared_one_by_one(tmp_path):
    with FakeService(prefers("right")) as service:
        _, grader = opened(recipe_for(service, "pairwise"), tmp_path)
        base = [Answer(f"id0#{n}", "wrong", 1, "stop") for n in (1, 2)]
        tuned = [Answer("id0#1", "right", 1, "stop"), Answer("id0#2", "wrong", 1, "stop")]
        found = judged_in_pairs(grader, ROWS[:1], {"base": base, "fine-tuned": tuned}, draws=2)
    assert found["fine-tuned"].scores == {"id0": [1.0, 0.5]}
    assert found["base"].scores == {"id0": [0.5, 0.5]}


def test_a_key_stands_in_no_file(tmp_path, monkeypatch):
    with FakeService(yes_to_right) as service:
        port = service.url.split(":")[2].split("/")[0]
        monkeypatch.setenv(f"LUTHIER_KEY_127_0_0_1_{port}", "sk-canary-777")
        recipe = recipe_for(service)
        _, grader = opened(recipe, tmp_path)
        Judged.of(grader, ROWS, answers("right"))
    assert service.headers[0]["authorization"] == "Bearer sk-canary-777"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written
    assert b"sk-canary" not in written + dump_recipe(recipe).encode()
