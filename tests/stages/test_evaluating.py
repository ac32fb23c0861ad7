"""What an evaluation looks at beside the two models: baselines, sources of rows, leaks, several answers, shape, curve."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from stage_rows import PLACES, write

import luthier
from luthier import sdk
from luthier.errors import EvaluateError, RecipeError
from luthier.evaluate.compare import compare_scores
from luthier.model.adapter import save_adapter
from luthier.model.loader import load_model
from luthier.model.lora import LoraConfig, attach
from luthier.runs import Event, read_lines

pytestmark = pytest.mark.unit


def row(place: str, **more: object) -> dict[str, object]:
    return {
        "messages": [
            {"role": "system", "content": "Answer with the capital."},
            {"role": "user", "content": f"What is the capital of {place}, please?"},
            {"role": "assistant", "content": place[::-1].title()},
        ],
        **more,
    }


ROWS = [row(place) for place in PLACES]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "capitals.jsonl", ROWS)


@pytest.fixture
def run(data: Path, settings: dict[str, object], tmp_path: Path) -> Path:
    luthier.finetune(data, out=tmp_path / "run", overrides=settings)
    return tmp_path / "run"


def test_the_base_is_tried_with_examples_and_all_pairs_are_corrected_together(run, settings) -> None:
    report = json.loads((run / "report.json").read_text())
    table = report["table"]
    names = [model["name"] for model in table["models"]]
    assert names[0] == "base"
    assert names[-1] == "fine-tuned"
    assert re.fullmatch(r"few-shot \([1248]\)", names[1])
    assert re.fullmatch(r"retrieved \([1248]\)", names[2])
    assert table["num_tests"] == len(table["pairings"]) == 6
    assert {pairing["tuned"] for pairing in table["pairings"] if pairing["base"] == "base"} == set(names[1:])
    assert all(pairing["adjusted_p"] >= pairing["p_value"] for pairing in table["pairings"])
    assert "chosen by the loss on" in table["described"][names[1]]
    for name in ("base", "few_shot", "retrieved", "fine_tuned"):
        assert len(read_lines(run / f"answers/{name}.jsonl")) == 1 + report["n"]


def test_without_baselines_there_is_no_table(data, settings, tmp_path) -> None:
    report = luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"evaluate.baselines": []})
    assert report.table is None
    assert sorted(path.name for path in (tmp_path / "run/answers").iterdir()) == ["base.jsonl", "fine_tuned.jsonl"]


def test_an_evaluation_that_was_made_is_not_made_again(run) -> None:
    before = {path.name: path.read_bytes() for path in (run / "answers").iterdir()}
    heard: list[Event] = []
    again = sdk.evaluate(run, listener=heard.append)
    assert {path.name: path.read_bytes() for path in (run / "answers").iterdir()} == before
    assert again.verdict == json.loads((run / "report.json").read_text())["verdict"]
    assert not [event for event in heard if event.kind == "progress" and event.data["done"] < event.data["total"]]


def test_answers_under_other_settings_are_asked_anew_and_the_old_ones_kept(run) -> None:
    before = (run / "answers/base.jsonl").read_bytes()
    heard: list[Event] = []
    sdk.evaluate(run, overrides={"evaluate.max_new_tokens": 4}, listener=heard.append)
    assert (run / "answers/base.jsonl.old").read_bytes() == before
    assert any("earlier answers" in event.message for event in heard)


def test_a_torn_last_line_is_answered_again(run) -> None:
    file = run / "answers/base.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    sdk.evaluate(run)
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_several_answers_a_row_are_drawn_and_their_noise_is_told(run) -> None:
    report = sdk.evaluate(run, overrides={"evaluate.samples": 3, "evaluate.baselines": []})
    assert report.samples == 3
    lines = read_lines(run / "answers/fine_tuned.jsonl")[1:]
    assert len(lines) == 3 * report.n
    assert len({line["text"] for line in lines if line["id"].split("#")[0] == lines[0]["id"].split("#")[0]}) > 1
    assert report.noise is not None
    assert report.noise.error**2 == pytest.approx(report.noise.sampling_error**2 + report.noise.row_error**2)


def test_rows_of_one_source_are_taken_together(data, settings, tmp_path) -> None:
    test = write(tmp_path / "test.jsonl", [row(place, metadata={"document": place[0]}) for place in PLACES[:12]])
    train = write(tmp_path / "train.jsonl", ROWS[12:])
    chosen = settings | {"data.test": str(test), "evaluate.cluster": "document", "evaluate.baselines": []}
    heard: list[Event] = []
    report = luthier.finetune(train, out=tmp_path / "run", overrides=chosen, listener=heard.append)
    sources = {place: place[0] for place in PLACES[:12]}
    assert report.clusters == len(set(sources.values()))
    assert report.cluster_key == "document"
    assert any(f"from {report.clusters} sources" in event.message for event in heard)
    by_row = {line.id: line for line in report.rows}
    place_of = {key: next(p for p in PLACES if f" {p}," in line.prompt) for key, line in by_row.items()}
    expected = compare_scores(
        {key: line.base_score for key, line in by_row.items()},
        {key: line.fine_tuned_score for key, line in by_row.items()},
        clusters={key: sources[place] for key, place in place_of.items()},
        seed=1,
    )
    assert (report.p_value, report.difference.low) == (expected.p_value, expected.difference.low)
    with pytest.raises(EvaluateError, match=r"test\.jsonl:1: the row has no 'chapter'") as caught:
        sdk.evaluate(tmp_path / "run", overrides={"evaluate.cluster": "chapter"})
    assert caught.value.code == "no_cluster"


def test_a_planted_leak_is_named_and_takes_no_part_in_the_verdict(settings, tmp_path) -> None:
    places = PLACES[:20]
    test = write(tmp_path / "test.jsonl", [row(place) for place in places])
    leaked = places[:4]
    train = write(tmp_path / "train.jsonl", [row(place) for place in (*PLACES[20:], *leaked)])
    chosen = settings | {"data.test": str(test), "data.on_overlap": "keep", "evaluate.baselines": []}
    report = luthier.finetune(train, out=tmp_path / "run", overrides=chosen)
    found = report.contamination
    assert found is not None
    assert found.checked
    assert (found.rows, found.kinds) == (4, {"duplicate": 4})
    assert report.n == 16
    assert found.with_them is not None
    assert found.with_them.n == 20
    assert found.on_them is not None
    assert found.on_them.n == 4
    assert re.search(r"test\.jsonl:\d is a duplicate of", found.sentence)
    assert len(report.rows) == 20
    honest = luthier.finetune(
        train, out=tmp_path / "dropped", overrides=chosen | {"data.on_overlap": "drop"}
    ).contamination
    assert honest is not None
    assert (honest.rows, honest.checked) == (0, True)


def test_rows_that_were_all_trained_on_are_no_test(run) -> None:
    heard: list[Event] = []
    with pytest.raises(EvaluateError, match="stands in the training data") as caught:
        sdk.evaluate(run, data=run / "data/train.jsonl", listener=heard.append)
    assert caught.value.code == "all_contaminated"
    assert not [event for event in heard if event.kind == "progress"]  # nothing was asked before


def test_whether_training_rows_leak_is_not_known_for_an_adapter_alone(run, tmp_path) -> None:
    report = sdk.evaluate(run / "adapter", data=run / "data/test.jsonl", out=tmp_path / "out")
    assert report.contamination is not None
    assert not report.contamination.checked
    assert report.table is None
    assert any("not at hand" in note for note in report.notes)


def test_the_report_says_what_the_answers_look_like_and_how_training_went(run) -> None:
    report = json.loads((run / "report.json").read_text())
    assert report["shape"]["shape"] == "a single line"
    assert report["shape"]["trained_share"] == 1
    assert 0 <= report["shape"]["fine_tuned_share"] <= 1
    assert report["overfitting"]["best_step"] == report["training"]["best_step"]
    assert report["overfitting"]["copying"] is None  # one-word answers can be worded in one way alone
    assert report["overfitting"]["gap"] == pytest.approx(
        report["overfitting"]["best_valid_loss"] - report["overfitting"]["train_loss"]
    )


def test_long_answers_are_asked_for_in_other_words(settings, tmp_path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Please tell me of {place}."},
                {
                    "role": "assistant",
                    "content": f"{place} is a place that one of us has seen and liked, {place} it is.",
                },
            ]
        }
        for place in PLACES
    ]
    data = write(tmp_path / "rows.jsonl", rows)
    report = luthier.finetune(data, out=tmp_path / "run", overrides=settings | {"evaluate.grader": "exact"})
    assert report.overfitting is not None
    copying = report.overfitting.copying
    assert copying is not None
    assert copying.rows == 24
    assert len(read_lines(tmp_path / "run/answers/fine_tuned_reworded.jsonl")) == 25


def test_a_curve_is_made_of_runs_on_parts_and_kept(settings, tmp_path) -> None:
    places = [
        f"{a}{b}{c}"
        for a in ("Bor", "Kal", "Mir", "Tos", "Ver")
        for b in ("an", "el", "ud", "ip")
        for c in ("ia", "ova")
    ]
    places += [f"{c}{b}{a}".title() for a in ("bor", "kal", "mir") for b in ("an", "el", "ud") for c in ("ia", "ova")]
    run = tmp_path / "run"
    luthier.finetune(write(tmp_path / "rows.jsonl", [row(place) for place in places]), out=run, overrides=settings)
    heard: list[Event] = []
    report = sdk.evaluate(run, curve=True, listener=heard.append)
    assert report.curve is not None
    assert report.data is not None
    sizes = [point.examples for point in report.curve.points]
    assert sizes == [report.data.train // 4, report.data.train // 2, report.data.train]
    assert report.curve.points[-1].score == pytest.approx(report.fine_tuned.score)
    assert all(point.error > 0 for point in report.curve.points)
    assert report.curve.answer in ("MORE DATA WILL HELP", "MORE DATA WILL NOT HELP", "CANNOT BE TOLD")
    assert [event.message for event in heard if "Learning curve" in event.message]
    part = json.loads((run / f"curve/{sizes[0]}-rows/run/report.json").read_text())
    assert part["data"]["train"] == sizes[0]
    assert part["rows"][0]["id"] == report.rows[0].id
    again: list[Event] = []
    assert sdk.evaluate(run, curve=True, listener=again.append).curve == report.curve
    assert not [event for event in again if event.kind == "step"]


def test_a_curve_needs_a_run_of_its_own(run, tmp_path) -> None:
    with pytest.raises(RecipeError) as caught:
        sdk.evaluate(run / "adapter", data=run / "data/test.jsonl", curve=True)
    assert caught.value.code == "no_run_to_repeat"


def test_another_model_takes_part_in_the_table(run, data, settings, tmp_path) -> None:
    luthier.finetune(data, out=tmp_path / "other", overrides=settings | {"train.n_epochs": 1, "evaluate.baselines": []})
    report = sdk.evaluate(run, overrides={"evaluate.against": [str(tmp_path / "other")], "evaluate.baselines": []})
    assert report.table is not None
    assert [model.name for model in report.table.models] == ["base", str(tmp_path / "other"), "fine-tuned"]
    assert report.table.num_tests == 3


def test_what_is_required_of_the_report_is_checked_before_and_held_against_it(data, settings, tmp_path) -> None:
    with pytest.raises(RecipeError) as caught:
        luthier.finetune(data, out=tmp_path / "a", overrides=settings | {"evaluate.require": "diference.low > 0"})
    assert caught.value.code == "bad_requirement"
    assert not (tmp_path / "a/adapter").exists()
    report = luthier.finetune(data, out=tmp_path / "b", overrides=settings | {"evaluate.require": "difference.low > 2"})
    assert report.requirement is not None
    assert not report.requirement.holds
    assert json.loads((tmp_path / "b/report.json").read_text())["requirement"]["values"] == report.requirement.values


def test_what_was_forgotten_is_measured(run) -> None:
    report = sdk.evaluate(run, overrides={"evaluate.probe": "builtin", "evaluate.baselines": []})
    assert report.forgetting is not None
    assert report.forgetting.verdict in ("OK", "DRIFT", "FORGOTTEN")
    assert report.forgetting.prose is not None
    none = sdk.evaluate(run, overrides={"evaluate.baselines": []})
    assert none.forgetting is None


def test_a_base_against_itself_shows_no_difference_at_all(data, settings, tiny_model_folder, tmp_path) -> None:
    model = load_model(tiny_model_folder, "float32")
    untrained = attach(model.network, LoraConfig(r=4, lora_alpha=8), seed=1)
    save_adapter(untrained, tmp_path / "adapter", base=str(tiny_model_folder))
    chosen = {"model.dtype": "float32", "evaluate.max_new_tokens": 16}
    report = sdk.evaluate(tmp_path / "adapter", data=data, out=tmp_path / "out", overrides=chosen)
    assert report.verdict in ("NO DIFFERENCE SHOWN", "UNDERPOWERED")
    assert (report.difference.value, report.wins, report.losses, report.p_value) == (0, 0, 0, 1)
    assert all(row.base_answer == row.fine_tuned_answer for row in report.rows)
    assert report.forgetting is not None
    assert report.forgetting.verdict == "OK"
