"""Compiles `kernels.c` and `decode.c` for this processor, once, and keeps the result.

Compiling takes a second and any C compiler will do. Without one, or where the result cannot be loaded, the same
operations are computed by torch: slower, and right (`luthier.model.kernels.operations`). Why not torch.compile: decision
0012.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luthier.model.sources import home

Library = Literal["kernels", "decode"]
_SOURCES: dict[Library, tuple[str, ...]] = {
    "kernels": ("kernels.c", "rows.h", "attention.h", "ranks.h"),
    "decode": ("decode.c", "decode_products.h", "decode_layers.h", "numbers.h"),
}
"""The file that is compiled, and what it includes."""
_FLAGS = (
    "-std=c11",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fopenmp",
    "-fPIC",
    # Compilers shy away from the widest vectors, for the sake of processors of 2017 that slowed down with them.
    *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()),
)
_OWN_FLAGS: dict[Library, tuple[str, ...]] = {"kernels": (), "decode": ("-ffp-contract=fast",)}
"""Sums of products may be fused in `decode`, which has to agree with itself alone, bit for bit."""
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Native:
    """The compiled operations, or why there are none.

    Attributes:
        library: None where they could not be compiled or loaded.
        reason: one line for a person.
    """

    library: ctypes.CDLL | None
    reason: str


@functools.cache
def native(library: Library = "kernels") -> Native:
    """Returns compiled operations: those of training, or those of generation. They are compiled at the first call on a
    machine."""
    if os.environ.get("LUTHIER_NATIVE") == "0":
        return Native(None, "LUTHIER_NATIVE=0")
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return Native(None, "there is no C compiler (cc, gcc or clang)")
    try:
        file = home() / "kernels" / f"{_digest(compiler, library)}.so"
        if not file.exists():
            _compile(compiler, library, file)
        return Native(ctypes.CDLL(str(file)), f"compiled for this processor by {Path(compiler).name}")
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return Native(None, f"{Path(compiler).name} failed: {lines[0] if lines else error}")
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"{Path(compiler).name} failed: {error}")


def _digest(compiler: str, library: Library) -> str:
    """Returns a name for what these sources become here: other sources, compilers, processors get another file."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout
    folder = Path(__file__).parent
    flags = " ".join(_FLAGS + _OWN_FLAGS[library]).encode()
    parts = [version, flags, _processor(), *((folder / name).read_bytes() for name in _SOURCES[library])]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"\n".join(sorted({line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}))


def _compile(compiler: str, library: Library, file: Path) -> None:
    """Writes the library, whole or not at all; two processes may do so at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, ignore_cleanup_errors=True) as folder:
        compiled, linked = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
        source = Path(__file__).parent / _SOURCES[library][0]
        run = functools.partial(subprocess.run, check=True, capture_output=True, timeout=_SECONDS)
        run([compiler, *_FLAGS, *_OWN_FLAGS[library], "-c", str(source), "-o", str(compiled)])
        # Without an OpenMP of its own, the library takes torch's, and its threads with it. Where torch does not show its
        # own to others, one has to be linked after all.
        run([compiler, "-shared", str(compiled), "-o", str(linked), "-lm"])
        try:
            ctypes.CDLL(str(linked), mode=os.RTLD_NOW)
        except OSError:
            run([compiler, "-shared", "-fopenmp", str(compiled), "-o", str(linked), "-lm"])
        with contextlib.suppress(FileExistsError):
            linked.replace(file)
