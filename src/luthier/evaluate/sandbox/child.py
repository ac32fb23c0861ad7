"""The program that runs one `grade(sample, item)`: shuts itself in, then runs the source.

It is started by its path, in a folder of its own, with an empty environment. The job comes as JSON on standard input; two
lines of JSON go to the descriptor that the job names: how the process is shut in, then the score or why there is none.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

_READABLE = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random",
    "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
)  # fmt: skip
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_OUTSIDE_EVENTS = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "os.kill")
_MAX_REASON = 300


def main() -> None:
    """Runs the job and ends the process."""
    with os.fdopen(0, "rb", closefd=False) as stream:
        job = json.loads(stream.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    folder = os.getcwd()  # noqa: PTH109 - starts faster
    os.environ.update({"TMPDIR": folder, "HOME": folder} | dict.fromkeys(_ONE_THREAD, "1"))
    roots = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120, PTH100
    sys.path.insert(0, here)
    held = _shut_in(job, sorted(roots), folder)
    # what was installed in place lies outside of the environment, and cannot be read any more
    sys.path[:] = [p for p in sys.path if p != here and any(os.path.realpath(p).startswith(root) for root in roots)]
    _tell(job["reply"], held)
    _tell(job["reply"], _graded(job))
    os._exit(0)


def _shut_in(job: dict[str, Any], roots: list[str], folder: str) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {"network": [], "processes": [], "files": []}
    if sys.platform == "linux":
        import kernel  # type: ignore[import-not-found]  # noqa: PLC0415 - beside this file

        kernel.die_with_parent()
        if kernel.leave_network():
            held["network"].append("namespace")
        kernel.refuse_privileges()
        if kernel.close_files([*_READABLE, *roots], folder):
            held["files"].append("landlock")
        _limit(job)
        if kernel.filter_calls():
            held["network"].append("seccomp")
            held["processes"].append("seccomp")
    else:
        _limit(job)
    if not held["processes"]:
        _soft_limit(resource.RLIMIT_NPROC, 0)
        sys.addaudithook(_refuse_outside)
        held["processes"].append("audit hook")
    if not held["network"]:
        held["network"].append("audit hook")
    return held


def _limit(job: dict[str, Any]) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, job["memory_bytes"]),
        (resource.RLIMIT_CPU, job["seconds"] + 1),  # the parent looks at the clock first
        (resource.RLIMIT_FSIZE, job["disk_bytes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        _soft_limit(kind, value)


def _soft_limit(kind: int, value: int) -> None:
    """Lowers a limit for good; some systems do not know all of them."""
    try:
        resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY and hard < value:
            resource.setrlimit(kind, (hard, hard))


def _refuse_outside(event: str, _arguments: Any) -> None:
    if event.startswith(_OUTSIDE_EVENTS):
        raise PermissionError(f"{event} is not allowed in a grader")


def _graded(job: dict[str, Any]) -> dict[str, Any]:
    try:
        names: dict[str, Any] = {"__name__": "grader"}
        exec(compile(job["source"], "grader.py", "exec"), names)  # noqa: S102 - what this process is for
        grade: Callable[[Any, Any], Any] = names["grade"]
        found = grade(job["sample"], job["item"])
    except MemoryError:
        return {"reason": f"ran out of its {job['memory_bytes']:,} bytes of memory"}
    except SystemExit as error:
        return {"reason": f"called sys.exit({error.code!r})"[:_MAX_REASON]}
    except BaseException as error:  # noqa: BLE001 - whatever the source does is its answer
        return {"reason": f"raised {_described(error)}"}
    try:
        return {"value": _number(found)}
    except BaseException:  # noqa: BLE001 - its type may be the source's own
        said = repr(found) if type(found) is float else type(found).__name__
        return {"reason": f"returned no number, but {said}"[:_MAX_REASON]}


def _number(found: Any) -> float:
    if found is None or isinstance(found, str | bytes | bytearray):
        raise TypeError
    number = float(found)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def _described(error: BaseException) -> str:
    trace = error.__traceback__
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "grader.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - as above
        text = ""
    where = f" (line {line})" if line else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}"[:_MAX_REASON] + where


def _tell(descriptor: int, message: dict[str, Any]) -> None:
    left = json.dumps(message).encode() + b"\n"
    while left:
        left = left[os.write(descriptor, left) :]


if __name__ == "__main__":
    main()
