"""All rules by code and group, and the choice of them that `--only` and `--skip` make."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import get_args

from luthier.data.findings import Group, Rule
from luthier.data.rules import catalogue_file, catalogue_leak, catalogue_message, catalogue_set, catalogue_text
from luthier.errors import RecipeError

RULES: tuple[Rule, ...] = (
    *catalogue_file.RULES,
    *catalogue_message.RULES,
    *catalogue_text.RULES,
    *catalogue_set.RULES,
    *catalogue_leak.RULES,
)
GROUPS: tuple[Group, ...] = get_args(Group)
CODES: dict[str, Group] = {rule.code: rule.group for rule in RULES}
"""Each code once, with its group, in the order of the groups."""
FIXABLE: frozenset[str] = frozenset(rule.code for rule in RULES if rule.fix)


def chosen(names: Iterable[str], *, param: str) -> frozenset[str]:
    """Returns the codes that a list of codes and groups names.

    Args:
        names: codes or groups; one text may hold several with commas between.
        param: the option, for the error.

    Raises:
        RecipeError: code "unknown_finding" for a name that is neither.
    """
    codes: set[str] = set()
    for name in (part.strip() for text in names for part in text.split(",")):
        if name in GROUPS:
            codes.update(code for code, group in CODES.items() if group == name)
        elif name in CODES:
            codes.add(name)
        elif name:
            close = difflib.get_close_matches(name, [*CODES, *GROUPS], n=1)
            raise RecipeError(
                f"There is no finding and no group called “{name}”.",
                code="unknown_finding",
                param=param,
                hint=(f"Did you mean {close[0]}? " if close else "")
                + f"Groups are {', '.join(GROUPS)}; docs/findings/ has a page for each code.",
            )
    return frozenset(codes)
