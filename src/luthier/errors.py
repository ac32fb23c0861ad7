"""The whole error tree.

```
LuthierError
├── RecipeError       exit 2   the recipe or the command line is wrong
├── DataError         exit 2   the examples are wrong
├── ModelError        exit 2   the model is wrong or cannot be used
├── MissingError      exit 3   a part of the environment is missing (the hint installs it)
├── TrainError        exit 1   training cannot go on
├── EvaluateError     exit 2   an evaluation or comparison cannot be made
├── JobError          exit 2   a job's state does not allow this
├── RemoteError       exit 4   a remote service failed or refused
└── Interrupted       exit 130 stopped by the user; the hint says how to go on
```

A message says what is wrong and where (file:line, recipe path, value); the hint says what to do. The same object is an
exception, one line on the terminal, and `{"error": {message, type, param, code}}` for programs.
"""

from __future__ import annotations

from typing import ClassVar


class LuthierError(Exception):
    """An error a person can act on.

    Args:
        message: what is wrong, and where.
        code: stable, snake_case, for programs.
        param: the recipe path, option or field at fault.
        hint: what to do about it.

    Attributes:
        told: whether another process of the same training tells it, so that this one need not.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, code: str, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.hint = hint
        self.told = False

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def to_json(self) -> dict[str, dict[str, str | None]]:
        """Returns the error in OpenAI's envelope, with our class as `type` and the remedy as `hint`."""
        return {
            "error": {
                "message": self.message,
                "type": type(self).__name__,
                "param": self.param,
                "code": self.code,
                "hint": self.hint,
            }
        }


class RecipeError(LuthierError):
    """The recipe, a preset, an override or the command line is wrong."""


class DataError(LuthierError):
    """The examples are wrong, too few, or cannot be read."""


class ModelError(LuthierError):
    """The model cannot be found, is of a kind that cannot be used, or its files are damaged."""


class MissingError(LuthierError):
    """A part of the environment is missing; the hint gives the command that installs it."""

    exit_code: ClassVar[int] = 3


class TrainError(LuthierError):
    """Training cannot start or go on; what was saved stays usable."""

    exit_code: ClassVar[int] = 1


class EvaluateError(LuthierError):
    """An evaluation or a comparison cannot be made."""


class JobError(LuthierError):
    """A job's state does not allow what was asked."""


class RemoteError(LuthierError):
    """A remote service failed or refused."""

    exit_code: ClassVar[int] = 4


class Interrupted(LuthierError):  # noqa: N818 - it is not a fault
    """Stopped by the user; the hint says how to go on."""

    exit_code: ClassVar[int] = 130
