"""Ray judges the same blocks: the findings on two workers are those of the local run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.data import blocks
from luthier.data.check import CheckResult, check_files
from luthier.data.twins.held_out import read_held_out
from luthier.errors import DataError

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

Row = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def local_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)


def everything(result: CheckResult) -> Any:
    rows = [(example.file, example.line, example.row) for example in result.examples]
    return result.to_json(), rows, [row.to_json() for row in result.rejected], result.rows_read


@pytest.mark.usefixtures("local_blocks")
def test_many_files_give_the_findings_of_the_local_run(
    write: Callable[..., Path], rows: Callable[[int], list[Row]]
) -> None:
    many = rows(2000)
    many[100]["messages"] = many[100]["messages"][:1]
    many[1500] = many[20]
    many[1700]["messages"][0]["role"] = "human"
    lines = [json.dumps(row) for row in many]
    lines[300] = lines[300][:50]
    lines[900] = json.dumps(many[900], indent=2)
    files = [write("\n".join(lines[start : start + 500]), f"part{start}.jsonl") for start in range(0, 2000, 500)]
    files.append(write(json.dumps(many[:200], indent=1), "array.jsonl"))
    held_out = read_held_out([write(many[40:45], "test.jsonl")])
    local = everything(check_files(files, held_out=held_out))
    assert everything(check_files(files, held_out=held_out, on_ray=True)) == local
    assert {"contamination", "duplicate", "no-assistant", "truncated-row", "not-jsonl", "unknown-role"} <= {
        finding["code"] for finding in local[0]["findings"]
    }


def test_the_messy_files_as_one_set(messy: Path) -> None:
    files = sorted(messy.glob("*.jsonl"))
    assert everything(check_files(files, on_ray=True)) == everything(check_files(files))


def test_streams_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(DataError) as caught:
        check_files([packed], on_ray=True)
    assert caught.value.code == "not_shared"
