"""The simulations of the benchmark, which the tests of the statistics run as well."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "statistics_calibration.py"


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    specification = importlib.util.spec_from_file_location("statistics_calibration", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module
