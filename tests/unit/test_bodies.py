"""Strict JSON bodies and the paths of their fields."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bodies import field_path, parse_json, validate
from api.core.errors import InvalidJson, ValidationFailed
from cpd_engine.config import RunConfig

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_json_dumps_writes_is_read_back_unless_it_is_too_deep(value: dict[str, Any]) -> None:
    assert parse_json(json.dumps(value).encode(), max_depth=64) == value


@given(st.binary(max_size=200))
def test_no_bytes_at_all_give_anything_but_an_object_or_a_refusal(raw: bytes) -> None:
    with suppress(InvalidJson):
        assert isinstance(parse_json(raw), dict)


@given(st.text(st.characters(), max_size=60), st.sampled_from(['{"a": "%s"}', '{"%s": 1}', '{"a": [%s]}', "%s"]))
def test_no_text_at_all_gives_anything_but_an_object_or_a_refusal(inner: str, around: str) -> None:
    raw = (around % inner).encode("utf-8", "surrogatepass")
    with suppress(InvalidJson):
        json.dumps(parse_json(raw), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("depth", [1, 15, 16])
def test_nesting_is_allowed_to_its_limit_and_no_further(depth: int) -> None:
    inside = b'{"a": ' * (depth - 1) + b'{"a": 1}' + b"}" * (depth - 1)

    assert parse_json(inside, max_depth=16)
    with pytest.raises(InvalidJson, match="deeper than"):
        parse_json(b'{"a": ' * (17 - depth) + inside + b"}" * (17 - depth), max_depth=16)


@pytest.mark.parametrize(
    ("loc", "path"),
    [
        (("teacher", "hub", "hub"), "teacher.hub"),
        (("teacher", "tiny", "layers"), "teacher.layers"),
        (("student", "from", "from"), "student.from"),
        (("teacher",), "teacher"),
        (("alpha", "tuple[constrained-float, ...]", 1), "alpha.1"),
        (("optimizer", "max_grad_norm"), "optimizer.max_grad_norm"),
        (("evaluation", "baselines", 0), "evaluation.baselines.0"),
        (("metadata", "key", "[key]"), "metadata.key"),
        (("dataset", "synthetic", "rows"), "dataset.synthetic.rows"),
        (("unknown", "deep"), "unknown.deep"),
    ],
)
def test_a_field_is_named_as_a_person_would(loc: tuple[str | int, ...], path: str) -> None:
    assert field_path(RunConfig, loc) == path


def test_of_a_union_the_member_that_was_meant_is_complained_about() -> None:
    spec = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}, "alpha": [0.5, 2.0]}
    with pytest.raises(ValidationFailed) as refused:
        validate(RunConfig, spec)

    assert refused.value.param == "alpha.1"
    assert "less than or equal to 1" in refused.value.message
