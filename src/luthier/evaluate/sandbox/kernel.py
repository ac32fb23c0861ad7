"""What the child asks of Linux before it runs foreign code: namespaces, Landlock, a system call filter.

Each function returns whether the kernel granted it; where it did not, something else has to hold. Only the standard library
is used: the child imports this file by its folder, without the package around it.

Source: unshare(2), landlock(7), seccomp(2), and the kernel's tables of system calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SIGKILL = 9
_NEW_USER, _NEW_NET, _NEW_IPC, _NEW_UTS = 0x10000000, 0x40000000, 0x08000000, 0x04000000

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 1 << 2 | 1 << 3  # files, folders
_FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_FILE_SYSTEM_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # by version; 16 from the fifth on
_TCP = 1 << 0 | 1 << 1  # bind, connect
_OUTSIDE = 1 << 0 | 1 << 1  # abstract sockets, signals

_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_MACHINE, _AT_FIRST_ARGUMENT = 0, 4, 16
_THREAD = 0x00010000
_X32 = 0x40000000

# refused whatever their arguments: sockets; programs and processes; signals and looking into other processes; other roots
# and namespaces; what has been a way around all of these
_REFUSED = {
    "x86_64": (
        41, 57, 58, 59, 322, 62, 200, 234, 129, 297, 424, 434, 438, 101, 310, 311, 155, 161, 165, 166, 272, 308, 304,
        175, 313, 248, 249, 250, 298, 321, 323, 425,
    ),
    "aarch64": (
        198, 221, 281, 129, 130, 131, 138, 240, 424, 434, 438, 117, 270, 271, 41, 51, 40, 39, 97, 268, 265, 105, 273,
        217, 218, 219, 241, 280, 282, 425,
    ),
}  # fmt: skip
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Has the kernel kill this process when the one that started it ends."""
    _library().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def leave_network() -> bool:
    """Moves to a network of its own, without any device that is up, and to no privileges."""
    return bool(_library().unshare(_NEW_USER | _NEW_NET | _NEW_IPC | _NEW_UTS) == 0)


def refuse_privileges() -> bool:
    """Gives up gaining privileges for good, which the two below need."""
    return bool(_library().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def close_files(readable: Iterable[str], writable: str) -> bool:
    """Allows reading these files and folders and using one folder, and no other; no TCP, no signals to others."""
    call = _library().syscall
    version = call(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    every = (1 << _FILE_SYSTEM_BITS.get(version, 16)) - 1
    attributes = struct.pack("=Q", every)
    if version >= 4:
        attributes += struct.pack("=Q", _TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _OUTSIDE)
    rules = call(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        for path, rights in [*((path, _READ) for path in readable), (writable, every)]:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # not on this system
            try:
                allowed = rights if os.path.isdir(path) else rights & _FILE_RIGHTS  # noqa: PTH112 - starts faster
                rule = struct.pack("=Qi", allowed & every, place)
                if call(_LANDLOCK_ADD, rules, 1, rule, 0) != 0:
                    return False
            finally:
                os.close(place)
        return bool(call(_LANDLOCK_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def filter_calls() -> bool:
    """Refuses system calls that make sockets, start programs or processes, or reach other processes. Threads are allowed."""
    machine = platform.machine()
    if machine not in _REFUSED:
        return False
    refuse = (_RETURN, 0, 0, _REFUSE | _EPERM)
    program = [
        (_LOAD, 0, 0, _AT_MACHINE),
        (_EQUAL, 1, 0, _MACHINES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
        # the library falls back to clone, whose flags a filter can see
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _REFUSE | _ENOSYS),
    ]
    for number in _REFUSED[machine]:
        program += [(_EQUAL, 0, 1, number), refuse]
    program += [
        (_EQUAL, 0, 3, _CLONE[machine]),
        (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        (_ANY_BIT, 1, 0, _THREAD),
        refuse,
        (_RETURN, 0, 0, _ALLOW),
    ]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(packed))
    return bool(_library().prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)
