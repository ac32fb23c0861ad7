"""The JSON of a check is what its schema says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from luthier import sdk
from luthier.data.check_json import CheckJSON

pytestmark = pytest.mark.reference
SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "check.schema.json"


@pytest.mark.parametrize("only", [(), ("file",), ("set", "secret")])
def test_every_answer_is_as_the_documented_schema_says(messy: Path, public_data: Path, only: tuple[str, ...]) -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == CheckJSON.model_json_schema()
    files = [*sorted(messy.glob("*.jsonl"))[::4], public_data / "banking77-intent" / "test.jsonl"]
    for file in files:
        answer = json.loads(json.dumps(sdk.check([file], only=only, keep=False).to_json()))
        jsonschema.validate(answer, schema)
        assert answer["summary"]["rows"] == answer["examples"] + answer["summary"]["rejected"]
