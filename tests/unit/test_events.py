"""Events survive the wire, and nothing that is not an event gets in."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cpd_engine.events import Checkpointed, Evaluated, Measured, SealedFile, from_json, to_json

MEASURED = Measured(
    trained="student",
    step=3,
    total_steps=9,
    epoch=1,
    values={"loss": 1.5},
    tokens_per_s=10.0,
    step_s=0.5,
    eta_s=None,
    memory_bytes=7,
)


def test_an_event_comes_back_equal_from_its_line() -> None:
    sealed = Checkpointed(
        name="step-000001",
        role="training",
        path="train/step-000001",
        files=(SealedFile(path="model.safetensors", size_bytes=3, sha256="0" * 64),),
        retained=("step-000001",),
        step=1,
        metrics={"rouge_l": 12.5},
    )
    for event in (MEASURED, sealed, Evaluated(subject="teacher", split="test", rows=4, metrics={"ce": 1.0})):
        line = to_json(event)
        assert "\n" not in line
        assert from_json(line) == event


def test_a_number_that_is_not_finite_never_reaches_the_wire() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Evaluated(subject="teacher", split="test", rows=1, metrics={"ce": float("nan")}))


@pytest.mark.parametrize("line", ["", "{", "[]", '{"kind":"measured"}', '{"kind":"no_such_event"}', "null"])
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValidationError):
        from_json(line)
