"""Fine-tune a language model on your chat examples, prove that it beats its base, and serve it.

```python
import luthier

report = luthier.finetune("examples.jsonl", out="runs/first")
print(report.verdict, report.reason)
```
"""

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
from luthier.sdk import chat, check, compare, evaluate, finetune, list_models, pull_model, split, train

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
    "compare",
    "evaluate",
    "finetune",
    "list_models",
    "load_recipe",
    "pull_model",
    "split",
    "train",
]
