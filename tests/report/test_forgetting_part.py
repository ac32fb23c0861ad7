"""The report's part about forgetting: complete, and JSON whatever the numbers are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from luthier.evaluate.forgetting.measures import Manner, Window, corrected, measure_paired, measure_prose
from luthier.evaluate.forgetting.result import ProbeResult
from luthier.evaluate.forgetting.verdict import judge
from luthier.report.forgetting import forgetting_part
from luthier.report.forgetting_schema import Forgetting

pytestmark = pytest.mark.unit
MANNER = Manner(5, 5, 3, 1, 0, 0, 30.0, 45.0, 2, 4, 1.5)


def result(nats_lost: float) -> ProbeResult:
    rng = np.random.default_rng(4)
    windows = []
    for number in range(6):
        base = -rng.gamma(2, 1, 50)
        windows.append(Window(f"register {number % 2}", 200, base, base - nats_lost, np.full(50, 0.01)))
    prose = measure_prose(windows)
    paired = corrected([measure_paired("pairs", ["x", "y"] * 20, [True] * 40, [True] * 20 + [False] * 20)])
    return ProbeResult("builtin", judge(prose, paired, MANNER), prose, tuple(paired), MANNER, ("a note",), 3.5)


def test_a_result_becomes_a_part_that_survives_json():
    found = result(0.5)
    part = forgetting_part(found)
    again = Forgetting.model_validate_json(part.model_dump_json())
    assert again == part
    assert part.verdict == found.judgement.verdict == "FORGOTTEN"
    assert [sign.name for sign in part.signs] == ["prose", "pairs"]
    assert part.prose is not None
    assert part.prose.ratio == pytest.approx(math.exp(0.5))
    assert [reading.group for reading in part.registers] == ["register 0", "register 1"]
    (items,) = part.items
    assert (items.base, items.fine_tuned, items.lost) == (1.0, 0.5, 20)
    assert items.fine_tuned_low < 0.5 < items.fine_tuned_high
    assert items.difference_low < items.difference == -0.5 < items.difference_high
    assert part.manner is not None
    assert part.manner.length_ratio == 1.5
    assert part.advice[-1].startswith("It refuses 1 of 5")


@pytest.mark.parametrize("lost", [math.nan, math.inf, 2000.0])
def test_what_is_no_number_is_null(lost):
    part = forgetting_part(result(lost))
    assert part.verdict == "FORGOTTEN"
    stored = json.loads(part.model_dump_json())
    assert stored["prose"]["ratio"] is None
    assert Forgetting.model_validate(stored) == part
