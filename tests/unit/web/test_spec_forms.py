from __future__ import annotations

from typing import Any

import pytest

from api.core.errors import ValidationFailed
from api.web.spec_forms import NAMES, config_of, field_at, fields_of

FIELDS = {"teacher": "tiny:gpt2", "student": "from-teacher:1", "train": "ds_12345678"}


def asked(**changed: str) -> dict[str, Any]:
    config = config_of(FIELDS | changed, [], max_depth=16)
    return config.model_dump(mode="json", by_alias=True, exclude_unset=True)


def refused(**changed: str) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        config_of(FIELDS | changed, [], max_depth=16)
    return caught.value


def test_fields_become_a_spec_and_empty_ones_are_not_said() -> None:
    spec = asked(name=" first ", preset="kld", epochs="3", tau_n="2.5", tau_1="", validation="ds_87654321")

    assert spec == {
        "name": "first",
        "preset": "kld",
        "teacher": {"tiny": "gpt2"},
        "student": {"from": "teacher", "drop_layers": 1},
        "dataset": {"train": "ds_12345678", "validation": "ds_87654321"},
        "epochs": 3,
        "tau_n": 2.5,
    }


def test_what_is_filled_in_goes_before_the_text_and_what_is_not_comes_from_it() -> None:
    spec = asked(
        advanced="epochs: 9\nseed: 4\ndataset: {synthetic: {rows: 10}, max_rows: 50}\nmax_length: 64", epochs="2"
    )

    assert (spec["epochs"], spec["seed"], spec["max_length"]) == (2, 4, 64)
    assert spec["dataset"] == {"train": "ds_12345678", "max_rows": 50}


def test_a_hub_model_may_name_its_revision_and_the_text_may_name_models_whole() -> None:
    assert asked(teacher="org/name@abc")["teacher"] == {"hub": "org/name", "revision": "abc"}
    assert asked(teacher="", advanced='{"teacher": {"tiny": "llama", "layers": 2}}')["teacher"]["layers"] == 2


@pytest.mark.parametrize(
    ("changed", "param", "field"),
    [
        ({"epochs": "many"}, "epochs", "epochs"),
        ({"epochs": "-1"}, "epochs", "epochs"),
        ({"tau_1": "nan"}, "tau_1", "tau_1"),
        ({"teacher": "a b"}, "teacher.hub", "teacher"),
        ({"student": ""}, "student", "student"),
        ({"train": ""}, "dataset", "train"),
        ({"preset": "magic"}, "preset", "preset"),
        ({"advanced": "optimizer: {batch_size: 0}"}, "optimizer.batch_size", "advanced"),
        ({"advanced": "unknown: 1"}, "unknown", "advanced"),
    ],
)
def test_a_refusal_is_told_at_the_field_that_earned_it(changed: dict[str, str], param: str, field: str) -> None:
    error = refused(**changed)

    assert error.param == param
    assert field_at(error.param) == field


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1\n- 2",
        "just words",
        "day: 2026-11-29",
        "!!python/object/apply:os.system [ls]",
        "a: &a [1]\nb: *a",
        "a: .inf",
        "a: " + "[" * 200 + "]" * 200,
        "a: " + "[" * 5000,
        "a: \ud800",
        'a: "\\0"',
    ],
)
def test_text_that_is_no_plain_mapping_is_refused_at_its_field(text: str) -> None:
    error = refused(advanced=text)

    assert error.param == "advanced"
    assert error.message.startswith("More fields: ")


@pytest.mark.parametrize(
    "spec",
    [
        {
            "teacher": {"tiny": "gpt2"},
            "student": {"from": "teacher", "drop_layers": 1},
            "dataset": {"train": "ds_12345678"},
        },
        {
            "name": "a: b # c",
            "teacher": {"hub": "org/name", "revision": "0123abc", "cache": "off"},
            "student": {"tiny": "llama", "layers": 2},
            "dataset": {"train": "ds_12345678", "test": "ds_87654321", "max_rows": 9},
            "epochs": 2,
            "tau_1": 1.5,
            "optimizer": {"learning_rate": 1e-05},
            "metadata": {"note": "ü — 'quotes' and \"more\""},
        },
        {"teacher": {"hub": "a/b"}, "student": {"hub": "c/d"}, "dataset": {"synthetic": {"rows": 1200}}, "seed": 3},
    ],
)
def test_the_form_of_a_job_asks_for_that_job_again(spec: dict[str, Any]) -> None:
    fields = fields_of(spec, [])

    assert set(fields) == set(NAMES)
    again = config_of(fields, [], max_depth=16).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert again == spec
