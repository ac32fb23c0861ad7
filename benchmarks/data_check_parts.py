"""Which contenders `benchmarks/data_check.py` compares, on which files."""

from __future__ import annotations

import os
from dataclasses import dataclass

PEER_ROWS = 20_000
"""The most rows shown to contenders that make a few thousand rows a second."""
MILLION = 1_000_000
ALL = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Contender:
    """One way to look at a file.

    Attributes:
        title: for the table.
        name: a contender of `data_check_contenders.py`, or None for the command.
        arguments: of the command `luthier check FILE`.
        cores: how many processors it may use, and how many workers it is told to take.
        peer: whether it runs in the peers' environment.
    """

    title: str
    name: str | None = None
    arguments: tuple[str, ...] = ()
    cores: int = 1
    peer: bool = True

    @property
    def is_ours(self) -> bool:
        return not self.peer


def ours(name: str, title: str, cores: int = 1) -> Contender:
    return Contender(title, name, cores=cores, peer=False)


def command(*arguments: str, cores: int = 1) -> Contender:
    return Contender(f"`{' '.join(('luthier check FILE', *arguments))}`", None, arguments, cores, peer=False)


COMMAND_PARSES, COMMAND_CHECKS = command("--only", "file,message", "--json"), command("--json", cores=ALL)
COOKBOOK = Contender("cookbook: format errors and token counts", "cookbook")
COOKBOOK_ERRORS = Contender("cookbook: format errors", "cookbook errors")
ORJSON = Contender("orjson alone: decoded, not looked at", "orjson")
PARSED = ours("luthier file,message", "**Luthier, files and messages**")
CHECKED, CHECKED_BY_ALL = ours("luthier all", "**Luthier, all**"), ours("luthier all", "**Luthier, all**", ALL)


@dataclass(frozen=True)
class Part:
    """Contenders that are compared, the first of them with each other one on as many cores."""

    title: str
    kinds: tuple[str, ...]
    contenders: tuple[Contender, ...]
    most_rows: int = MILLION
    is_million: bool = False


PARTS = {
    "parse": Part(
        "Read and validate (one core)",
        ("texts", "template", "tools"),
        (PARSED, COMMAND_PARSES, COOKBOOK_ERRORS, ORJSON),
    ),
    "full": Part(
        "The full check, near duplicates included",
        ("texts", "template", "tools"),
        (CHECKED, CHECKED_BY_ALL, COMMAND_CHECKS, COOKBOOK),
    ),
    "near": Part(
        "Near duplicates alone (one core)",
        ("texts", "template"),
        (
            ours("luthier near-duplicate", "**Luthier, near duplicates**"),
            Contender("datasketch: MinHashLSH, 5-grams, 128", "datasketch"),
        ),
        PEER_ROWS,
    ),
    "peers": Part(
        "Against what a training framework does with the file",
        ("texts",),
        (
            CHECKED,
            Contender("datasets + TRL: load, chat template, tokens", "datasets + TRL"),
            CHECKED_BY_ALL,
            Contender("datasets + TRL: load, chat template, tokens", "datasets + TRL", cores=ALL),
        ),
        PEER_ROWS,
    ),
    "million": Part(
        "A million rows",
        ("texts", "template"),
        (PARSED, CHECKED_BY_ALL, COMMAND_CHECKS, COOKBOOK_ERRORS),
        is_million=True,
    ),
}
