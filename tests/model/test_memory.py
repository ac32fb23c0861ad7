"""How much memory is free."""

from __future__ import annotations

import psutil
import pytest
import torch

from luthier.model.memory import free_memory

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")


def _cgroup(folder, limit):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("3000000\n")
    (folder / "memory.stat").write_text("anon 2000000\ninactive_file 600000\n")
    return folder


def test_without_a_limit_it_is_what_the_system_has_available(tmp_path):
    total = psutil.virtual_memory().total
    for folder in (tmp_path / "absent", _cgroup(tmp_path, "max")):
        assert 0 < free_memory(CPU, cgroup=folder) <= total


def test_a_containers_limit_counts_less_what_is_used_but_for_the_page_cache(tmp_path):
    assert free_memory(CPU, cgroup=_cgroup(tmp_path, 5_000_000)) == 2_600_000
    assert free_memory(CPU, cgroup=_cgroup(tmp_path, 1_000_000)) == 0
