"""What is demanded of a report: checked before, worked out after, and never anything but a condition."""

from __future__ import annotations

import string
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_reports import Probed, bare_report, forgetting, full_report, run_report

from luthier.errors import RecipeError
from luthier.report.requirement import check_requirement, evaluate_requirement, requirement_sentence
from luthier.report.words import exit_status

pytestmark = pytest.mark.unit


def probed(verdict: Literal["OK", "DRIFT", "FORGOTTEN"] | None) -> Probed:
    found = forgetting(verdict) if verdict else None
    return Probed.model_validate(run_report().model_dump() | {"forgetting": found and found.model_dump()})


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("difference.low > 0", True),
        ("0 < p_value < 0.05", True),
        ("0 < p_value < 1e-20", False),
        ("verdict == 'BETTER'", True),
        ("verdict in ('BETTER', 'NO DIFFERENCE SHOWN')", True),
        ("verdict not in ['WORSE']", True),
        ("not verdict == 'WORSE' and n == 40", True),
        ("wins / n > 0.9 and wins - losses >= 37", True),
        ("-difference.value < -(0.5 + 0.4)", True),
        ("(wins + losses) * 2 == 74", True),
        ("training.stopped_early", False),
        ("not training.stopped_early", True),
        ("metrics['valid JSON'].fine_tuned >= 0.99", True),
        ("metrics[0].name == 'field F1' and metrics[-1].name != 'field F1'", True),
        ("table.pairings['few-shot'].verdict == 'BETTER'", True),
        ("table.models['retrieved'].score < fine_tuned.score", True),
        ("table.pairings['few-shot'].tuned == 'fine-tuned'", True),
        ("seconds.train < 3600 and seconds['train'] > 1", True),
        ("contamination.rows == 0", False),
        ("curve.answer != 'MORE DATA WILL HELP'", True),
        ("unscored_reasons == None", False),
        ("'2 answers were cut at 128 tokens.' in notes", True),
        ("'adapter' in hashes", True),
        ("'one case' in reason", True),
        ("True and n > 1", True),
        ("recipe.evaluate.minimum_gain == 0.1", True),
    ],
)
def test_a_condition_is_worked_out_on_the_report(expression: str, holds: bool) -> None:
    check_requirement(expression)
    found = evaluate_requirement(expression, full_report())
    assert found.holds is holds
    assert found.expression == expression


def test_probe_is_another_name_for_forgetting() -> None:
    expression = "difference.low > 0 and probe.verdict == 'OK'"
    check_requirement(expression, Probed)
    ok = evaluate_requirement(expression, probed("OK"))
    assert ok.holds
    assert ok.values == {"difference.low": 0.8, "probe.verdict": "OK"}
    assert not evaluate_requirement(expression, probed("FORGOTTEN")).holds
    assert evaluate_requirement("forgetting.verdict == 'DRIFT'", probed("DRIFT")).holds


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("probe.verdict == 'OK'", False),
        ("probe.verdict != 'FORGOTTEN'", False),
        ("not probe.verdict == 'FORGOTTEN'", False),
        ("probe.verdict not in ('FORGOTTEN', 'DRIFT')", False),
        ("n > 1 and probe.verdict == 'OK'", False),
        ("n > 1 or probe.verdict == 'OK'", True),
        ("probe is None or probe.verdict == 'OK'", True),
        ("probe == None", True),
        ("probe is not None", False),
        ("probe.verdict in ('OK', None)", True),
        ("curve.more_examples < 100 or wins / losses > 2", False),
    ],
)
def test_what_was_not_measured_makes_nothing_hold_and_is_said(expression: str, holds: bool) -> None:
    found = evaluate_requirement(expression, probed(None))
    assert found.holds is holds
    assert None in found.values.values()
    assert "no value in this report" in requirement_sentence(found)


def test_an_operation_without_a_value_is_named() -> None:
    found = evaluate_requirement("wins / losses > 2", run_report())
    assert found.values == {"wins": 37, "losses": 0, "wins / losses": None}
    assert requirement_sentence(found) == (
        "It does not hold: wins = 37, losses = 0; wins / losses has no value in this report."
    )


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("fine_tuned.scor > 1", "Did you mean fine_tuned.score?"),
        ("difference.lo > 0", "Did you mean difference.low?"),
        ("low > 0", "difference.low"),
        ("score > 0.5", "base.score or fine_tuned.score"),
        ("diference.low > 0", "Did you mean difference?"),
        ("table.modles[0].score > 0", "Did you mean table.models?"),
        ("verdict == 'Better'", "none of BETTER, WORSE, NO DIFFERENCE SHOWN, UNDERPOWERED"),
        ("verdict in ('BETTER', 'SAME')", "none of BETTER"),
        ("verdict > 1", "never the same"),
        ("losses == 'none'", "never the same"),
        ("n", "neither holds nor not"),
        ("reason", "neither holds nor not"),
        ("n and wins", "where true or false is needed"),
        ("reason + 1 > 2", "where a number is needed"),
        ("__import__('os').system('true')", "has no place in it"),
        ("(lambda: True)()", "has no place in it"),
        ("[n for n in notes] == 1", "has no place in it"),
        ("n.__class__ == 1", "a report has no n.__class__"),
        ("verdict.upper() == 'X'", "has no place in it"),
        ("1 if n else 2", "has no place in it"),
        ("f'{n}' == '4'", "has no place in it"),
        ("n ** 2 > 1", "has no place in it"),
        ("n is 4", "asks for None alone"),
        ("metrics[n].name == 'x'", "one number or one quoted text"),
        ("metrics[True].name == 'x'", "one number or one quoted text"),
        ("n in (wins, losses)", "may hold numbers and texts alone"),
        ("requirement.holds", "a report has no requirement"),
        ("n := 4", "cannot be read"),
        ("n >", "cannot be read"),
        ("", "cannot be read"),
        ("n > 1; n > 2", "cannot be read"),
        ("b'x' == verdict", "neither a number nor a text"),
        ("1j == n", "neither a number nor a text"),
        ("(" * 300 + "n > 1" + ")" * 300, "cannot be read"),
        ("not " * 200 + "n > 1", "nests deeper"),
        ("n > 1 or " * 400 + "n > 1", "more than 2,000 characters"),
        ("n > 1\x00", "cannot be read"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_cause_before_anything_runs(expression: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_requirement(expression)
    assert caught.value.code == "bad_requirement"
    assert caught.value.param == "evaluate.require"
    assert said in str(caught.value)
    with pytest.raises(RecipeError):
        evaluate_requirement(expression, run_report())


WORDS = st.sampled_from(
    [
        "n", "wins", "verdict", "difference.low", "p_value", "curve", "curve.gain", "metrics['field F1'].base", "notes",
        "recipe.train.n_epochs", "seconds['x']", "data.mean_tokens", "rows", "rows[0].base_score", "table", "probe",
        "0", "1e308", "1e999", "-1", "'BETTER'", "'x'", "None", "True", "()", "('x', 1)", "[None]",
    ]
)  # fmt: skip
JOINTS = st.sampled_from(
    [" + ", " - ", " * ", " / ", " < ", " <= ", " == ", " != ", " in ", " not in ", " is ", " and ", " or ", ", ", "."]
)
EXPRESSIONS = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.builds(lambda a, joint, b: a + joint + b, inner, JOINTS, inner),
        inner.map("({})".format),
        inner.map("not {}".format),
        inner.map("-{}".format),
        inner.map("{}[0]".format),
        inner.map("f({})".format),
    ),
    max_leaves=8,
)


REPORTS = (full_report(), bare_report())


@settings(deadline=None, max_examples=200)
@given(st.one_of(EXPRESSIONS, st.text(max_size=60), st.text(string.printable, max_size=60)))
def test_no_condition_does_anything_but_hold_or_be_refused(expression: str) -> None:
    try:
        check_requirement(expression)
    except RecipeError as error:
        refused = error.code
    else:
        refused = None
    assert refused in (None, "bad_requirement")
    for report in REPORTS if refused is None else ():
        found = evaluate_requirement(expression, report)
        assert found.holds in (True, False)
        assert requirement_sentence(found)
        found.model_dump_json()


def test_the_exit_status_is_the_requirement_s_where_there_is_one_else_the_verdict_s() -> None:
    better, worse = run_report("BETTER"), run_report("WORSE")
    assert [exit_status(report) for report in (better, worse)] == [0, 1]
    for report in (better, worse):
        for expression, status in (("n > 1", 0), ("n > 1000", 1)):
            demanded = report.model_copy(update={"requirement": evaluate_requirement(expression, report)})
            assert exit_status(demanded) == status
