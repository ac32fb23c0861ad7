"""Fine-tune a language model on your chat examples, prove that it beats its base, and serve it.

```python
import luthier

report = luthier.finetune("examples.jsonl", out="runs/first")
print(report.verdict, report.reason)
```

The steps on their own, `train` and `evaluate` among them, are in `luthier.sdk`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.errors import (
        DataError,
        EvaluateError,
        Interrupted,
        JobError,
        LuthierError,
        MissingError,
        ModelError,
        RecipeError,
        RemoteError,
        TrainError,
    )
    from luthier.recipe import Recipe
    from luthier.recipe_io import LoadedRecipe, load_recipe
    from luthier.report.schema import Report
    from luthier.runs import Event
    from luthier.sdk import chat, check, clean, compare, finetune, list_models, pull_model, split

_MODULES = {
    "luthier.errors": (
        "DataError EvaluateError Interrupted JobError LuthierError MissingError ModelError RecipeError RemoteError TrainError"
    ),
    "luthier.recipe": "Recipe",
    "luthier.recipe_io": "LoadedRecipe load_recipe",
    "luthier.report.schema": "Report",
    "luthier.runs": "Event",
    "luthier.sdk": "chat check clean compare finetune list_models pull_model split",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "DataError",
    "EvaluateError",
    "Event",
    "Interrupted",
    "JobError",
    "LoadedRecipe",
    "LuthierError",
    "MissingError",
    "ModelError",
    "Recipe",
    "RecipeError",
    "RemoteError",
    "Report",
    "TrainError",
    "chat",
    "check",
    "clean",
    "compare",
    "finetune",
    "list_models",
    "load_recipe",
    "pull_model",
    "split",
]


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that `luthier --help` answers at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'luthier' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
