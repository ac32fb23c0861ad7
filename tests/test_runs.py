"""The run folder: whole files or none, one process a folder, readable refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest

from luthier.errors import RecipeError
from luthier.runs import RunFolder, append_line, folder_atomically, read_lines, write_atomically

pytestmark = pytest.mark.unit


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomically(file, b"old")

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("luthier.runs.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def write(fail):
        with folder_atomically(tmp_path / "adapter") as new:
            (new / "weights").write_bytes(b"2" if fail else b"1")
            if fail:
                raise ValueError("disk")

    write(fail=False)
    with pytest.raises(ValueError, match="disk"):
        write(fail=True)
    assert (tmp_path / "adapter/weights").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_torn_last_line_is_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    append_line(file, {"step": 1})
    append_line(file, {"step": 2})
    file.write_bytes(file.read_bytes()[:-4])
    assert read_lines(file) == [{"step": 1}]
    assert read_lines(tmp_path / "none.jsonl") == []


def test_a_folder_with_something_in_it_is_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError) as caught:
        RunFolder.create(tmp_path)
    assert caught.value.code == "out_not_empty"
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RecipeError, match="holds a run") as caught:
        RunFolder.create(tmp_path)
    assert f"--resume {tmp_path}" in str(caught.value.hint)


def test_without_a_path_the_next_free_number_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(RunFolder.create(None).path) for _ in range(2)] == ["runs/run-1", "runs/run-2"]


def test_a_folder_that_cannot_be_made_is_a_readable_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError) as caught:
        RunFolder.create(tmp_path / "file" / "run")
    assert caught.value.code == "out_not_writable"


def test_what_is_not_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(RecipeError, match=r"no manifest\.json"):
        RunFolder.open(tmp_path)
    with pytest.raises(RecipeError, match="does not exist"):
        RunFolder.open(tmp_path / "none")


def test_one_process_works_in_a_run_and_its_lock_dies_with_it(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from luthier.runs import RunFolder; import sys\nwith RunFolder({str(run.path)!r}).lock():\n"
            "    print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RecipeError) as caught, run.lock():
            pass
        assert caught.value.code == "run_in_use"
        holder.kill()
    with run.lock():
        assert (run.path / ".lock").exists()


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_one(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    script = (
        "import os, sys; from luthier import runs\n"
        "def killed(*_): os.kill(os.getpid(), 9)\n"
        "runs.disk.rename = killed\n"
        f"runs.write_atomically({str(run.data / 'train.jsonl')!r}, b'half')"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(list(run.data.iterdir())) == 1
    (run.path / "notes.tmp").write_text("not ours")
    with run.lock():
        assert list(run.data.iterdir()) == []
        assert (run.path / "notes.tmp").exists()
