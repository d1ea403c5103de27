"""comparison.json, checked against its schema."""

import json
from importlib.resources import files

from jsonschema import Draft202012Validator

SCHEMA = json.loads(files("moe_safety.evaluate").joinpath("comparison.schema.json").read_text(encoding="utf-8"))


def check_comparison(arms):
    """Fails with the first thing that is wrong with the list of arms, as it will be read back from JSON."""
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(arms, allow_nan=False)))
