"""How much memory is free: what the plan of a training starts from."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device, *, cgroup: Path = _CGROUP) -> int:
    """Returns the bytes that a process may still take on a device.

    On a CPU that is what the system has available without swapping, or what a container's limit leaves where that is
    less (cgroup v2, whose `memory.current` counts the page cache that can be given back, too, so `inactive_file` is
    taken off).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return available
    if limit == "max":
        return available
    return min(available, max(0, int(limit) - used + int(stat.get("inactive_file", 0))))
