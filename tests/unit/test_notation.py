"""Recipes as text."""

from __future__ import annotations

import json

import pytest
import yaml

from cpd_engine.config import RunConfig
from cpd_engine.notation import parse_yaml


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"), ("off", "off"), ("Yes", "Yes"), ("true", True), ("False", False), ("null", None), ("7", 7), ("0.5", 0.5),
        ("1e-3", 1e-3), ("2E4", 2e4), ("-1.5e+2", -150.0), ("1.0e-3", 1e-3), ("12e", "12e"), ("e5", "e5"), ("ds_1e5", "ds_1e5"),
    ],
)  # fmt: skip
def test_words_and_numbers_are_those_of_json(written: str, value: object) -> None:
    found = parse_yaml(f"field: {written}")["field"]

    assert (found, type(found)) == (value, type(value))


def test_nothing_but_plain_values_is_made_of_a_text() -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml("!!python/object/apply:os.getcwd []")


def test_the_wire_takes_no_truth_value_for_a_word() -> None:
    spec = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}
    for changed in ({"policy": {"kind": True}}, {"teacher": {"tiny": "gpt2", "cache": False}}):
        with pytest.raises(ValueError, match="Input should be"):
            RunConfig.model_validate_json(json.dumps(spec | changed))
