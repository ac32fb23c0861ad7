"""The package as a whole: public names, errors, and tests that really test."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import luthier
from luthier import errors

pytestmark = pytest.mark.unit
TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src" / "luthier"


def test_public_names_are_sorted_and_importable():
    assert luthier.__all__ == sorted(luthier.__all__)
    assert all(getattr(luthier, name) is not None for name in luthier.__all__)
    folders = {path.name for path in SOURCES.iterdir() if (path / "__init__.py").exists()}
    assert not folders & set(luthier.__all__)  # importing luthier.train would replace a function of that name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = luthier.nothing


def test_every_error_class_is_public_and_drawn_in_the_tree():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.LuthierError)]
    assert len(classes) > 8
    for cls in classes:
        assert cls.__name__ in luthier.__all__
        assert cls.__name__ in str(errors.__doc__)


def test_an_error_has_its_faces():
    error = errors.DataError("rows.jsonl:3: no answer.", code="no_assistant", param="data.train", hint="Add one.")
    assert str(error) == "rows.jsonl:3: no answer. Add one."
    assert error.to_json()["error"] == {
        "message": "rows.jsonl:3: no answer.",
        "type": "DataError",
        "param": "data.train",
        "code": "no_assistant",
        "hint": "Add one.",
    }
    assert error.exit_code == 2


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_every_test_asserts_something_and_says_its_tier(path):
    tree = ast.parse(path.read_text("utf-8"))
    names = {getattr(target, "id", "") for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    assert "pytestmark" in names
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    assert tests
    helpers = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and _asserts(n, set())}
    for test in tests:
        assert _asserts(test, helpers), f"{path.name}:{test.lineno} {test.name} asserts nothing"


def _asserts(function: ast.FunctionDef, helpers: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name.startswith("assert") or name in ("raises", *helpers):
                return True
    return False


def test_no_file_is_over_the_cap_or_named_after_nothing():
    files = [*SOURCES.rglob("*.py"), *TESTS.rglob("*.py")]
    assert len(files) > 40
    for file in files:
        assert len(file.read_text("utf-8").splitlines()) <= 600, file
        assert file.stem not in {"utils", "common", "helpers", "misc"}


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["check", "--help"], ["models", "list"], ["recipe", "show"]]
)
def test_help_and_listing_never_load_torch(words):
    script = (
        "import sys\nfrom luthier.cli.app import main\nsys.argv = ['luthier', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as e:\n    code = e.code\n"
        "assert not {'torch', 'transformers', 'scipy.stats'} & set(sys.modules), 'heavy import'\nsys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_checking_data_never_loads_torch(tmp_path):
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    file = tmp_path / "rows.jsonl"
    file.write_text(row)
    script = (
        "import sys, luthier\nresult = luthier.check([sys.argv[1]])\n"
        "assert len(result.examples) == 1\nassert not {'torch', 'transformers'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
