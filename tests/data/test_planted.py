"""How many of the faults planted in 10,000 rows the check finds, and how many clean rows it takes for faulty."""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from planted import MAX_EDITED_SHARE, Planted, plant
from rapidfuzz.distance import OSA

from luthier.data import findings
from luthier.data.check import CheckResult, check_files
from luthier.data.rules.catalogue import CODES
from luthier.data.twins.held_out import read_held_out

pytestmark = pytest.mark.unit

SEEDS = (1, 2, 3)
MAX_FALSE_ALARMS = 0.005
LEAST_FOUND = {
    "duplicate": 1.0,
    "near-duplicate": 0.98,
    "conflicting-answers": 1.0,
    "contamination": 0.99,
    "secret": 0.98,
    "pii": 0.98,
    "structural": 1.0,
    "text": 1.0,
    "system-prompt-differs": 1.0,
}
"""Source: the data doctor's task; those for texts, personal data and system prompts are ours."""


def group_of(code: str) -> str:
    if code in LEAST_FOUND:
        return code
    return "text" if CODES[code] == "text" or code == "mojibake" else "structural"


@functools.cache
def planted(seed: int) -> Planted:
    return plant(seed)


@functools.cache
def checked(seed: int) -> CheckResult:
    """The check of the planted file, with all lines of every finding."""
    found = planted(seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "MAX_LINES", 10**9)
        path, held_out = Path(folder) / "train.jsonl", Path(folder) / "test.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in found.lines))
        held_out.write_bytes(b"".join(line + b"\n" for line in found.held_out))
        return check_files([path], keep=False, workers=1, held_out=read_held_out([held_out]))


def lines_of(seed: int, *severities: str) -> dict[str, set[int]]:
    """The lines that the findings of each code cover."""
    lines: dict[str, set[int]] = defaultdict(set)
    for finding in checked(seed).findings:
        if finding.severity in severities:
            lines[finding.code].update(finding.rows.lines)
    return lines


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("group", LEAST_FOUND)
def test_planted_faults_are_found(seed, group):
    lines = lines_of(seed, "error", "warning", "info")
    faults = [fault for fault in planted(seed).faults if group_of(fault.code) == group]
    missed = [fault for fault in faults if fault.line not in lines[fault.code]]
    rate = 1 - len(missed) / len(faults)
    shown = "\n".join(
        f"{fault}\n    {planted(seed).lines[fault.line - 1].decode(errors='replace')}" for fault in missed
    )
    assert rate >= LEAST_FOUND[group], f"{rate:.2%} of {len(faults)}; missed:\n{shown}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", ["templated_lines", "clean_lines"])
def test_clean_rows_raise_no_alarm(seed, which):
    clean = getattr(planted(seed), which)
    alarms = {code: sorted(lines & clean) for code, lines in lines_of(seed, "error", "warning").items()}
    alarmed = set().union(*alarms.values())
    shown = "\n".join(
        f"{code} {line}\n    {planted(seed).lines[line - 1].decode()}"
        for code, some in alarms.items()
        for line in some[:10]
    )
    assert len(alarmed) <= MAX_FALSE_ALARMS * len(clean), f"{len(alarmed)} of {len(clean)}:\n{shown}"


@pytest.mark.parametrize("seed", SEEDS)
def test_no_row_is_lost_among_the_faults(seed):
    result = checked(seed)
    assert result.rows_read == planted(seed).num_rows
    assert result.rows_read == result.num_examples + result.num_rejected
    assert all(finding.rows.count == len(finding.rows.lines) for finding in result.findings)
    errors = {code: lines & planted(seed).clean_lines for code, lines in lines_of(seed, "error").items()}
    assert {code for code, lines in errors.items() if lines} <= {"contamination"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_planted_is_what_it_is_said_to_be(seed):
    """Judged by the standard library and by counts of edits, not by the check."""
    found = planted(seed)
    assert (len(found.lines), len(found.faults)) == (10_000, 500)
    assert len({fault.code for fault in found.faults}) >= 25
    said = {line: json.loads(found.lines[line - 1]) for line in found.clean_lines}
    prompts = Counter(json.dumps(row["messages"][:-1], sort_keys=True) for row in said.values())
    assert set(prompts.values()) == {1}
    for fault in found.faults:
        if fault.partner is None or fault.kind == "capitals":
            continue
        one, other = (json.loads(found.lines[line - 1])["messages"] for line in (fault.line, fault.partner))
        texts = [
            "".join(message["content"] or "" for message in side[1:] if message["role"] != "tool")
            for side in (one, other)
        ]
        edits = OSA.distance(*texts)
        if fault.code == "near-duplicate":
            assert 0 < edits <= MAX_EDITED_SHARE * max(map(len, texts)) + 1
        elif fault.code == "duplicate":
            assert one == other
        else:
            assert one[:-1] == other[:-1]
            assert one[-1] != other[-1]


def test_the_same_seed_plants_the_same_faults():
    one, again, other = plant(4, 600, 100), plant(4, 600, 100), plant(5, 600, 100)
    assert one == again
    assert one.lines != other.lines
    assert (len(one.lines), len(one.faults)) == (600, 100)
