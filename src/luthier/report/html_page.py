"""What all our pages share: one file each, whose own policy forbids every request."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luthier.report import numbers
from luthier.report.schema import ModelScore, Verdict
from luthier.report.visible import visible
from luthier.report.words import deciding_p, interval

STYLES = ("report.css", "sections.css", "narrow-and-print.css")
SCRIPT = "search.js"
"""The one script there is: it hides rows without the words looked for. Without it, everything else works."""

VERDICTS: dict[Verdict, str] = {
    "BETTER": "better",
    "WORSE": "worse",
    "NO DIFFERENCE SHOWN": "none",
    "UNDERPOWERED": "underpowered",
}


def render(template: str, **values: Any) -> str:
    """Returns a page.

    Nothing from the data can act: each value is escaped where it is put in, control and direction-changing characters are
    spelled out, and the page's own policy allows its style and its script by their hashes and nothing else.
    """
    style, script = _style(), _text(SCRIPT)
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), policy=Markup(_policy(style, script)), **values)
    )


def _policy(style: str, script: str) -> str:
    allowed = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _text(name: str) -> str:
    return files("luthier.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    return "".join(_text(name) for name in STYLES)


def _name(score: ModelScore) -> str:
    return score.name or "unnamed"


def _finalize(value: Any) -> Any:
    """Every expression of the template passes here before it is escaped."""
    if value is None:
        return numbers.MISSING
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("luthier.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=numbers.percent,
        points=numbers.points,
        p_value=numbers.p_value,
        count=numbers.count,
        significant=numbers.significant,
        short=numbers.short,
        fixed=numbers.fixed,
        moment=numbers.moment,
        duration=numbers.duration,
        label=_name,
        interval=interval,
        deciding_p=deciding_p,
        verdict_kind=VERDICTS.__getitem__,
    )
    return environment
