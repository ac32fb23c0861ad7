"""What every definition of a grader has."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from luthier.recipe_graders.template import Template


def _is_template(text: str) -> str:
    Template(text)
    return text


TemplateText = Annotated[str, AfterValidator(_is_template)]


class Frozen(BaseModel):
    """A frozen part of a definition that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Definition(Frozen):
    """A grader's definition."""

    name: str = ""
    """What the grader is called in reports; its type, where there is no name."""
    id: str | None = None
    """As in an exported eval; without meaning here."""
