"""Checkpoints of earlier versions are read, and a run that goes on from one ends where that version's own run ended."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import torch

from cpd_engine import checkpoint
from cpd_engine.config import RunConfig
from cpd_engine.events import Warned
from tests.learning.golden.making import BROKEN_AT, HERE, KEPT, adapter, carried_on, losses

VERSIONS = sorted(path.name.removesuffix(".tar.gz") for path in HERE.glob("*.tar.gz"))


def test_there_is_a_checkpoint_to_read() -> None:
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_of_an_earlier_version_is_resumed_to_the_same_student(version: str, tmp_path: Path) -> None:
    with tarfile.open(HERE / f"{version}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    out = tmp_path / "sealed"
    for unit in KEPT:
        checkpoint.verify(out / unit)

    config = RunConfig.model_validate_json((tmp_path / "config.json").read_bytes())
    events = carried_on(config, out, lambda _: None)

    assert not [event for event in events if isinstance(event, Warned) and event.code == "checkpoint_corrupt"]
    kept = {int(step): loss for step, loss in json.loads((tmp_path / "losses.json").read_text()).items()}
    found = losses(events)
    assert min(found) == BROKEN_AT + 1, "nothing was trained again"
    # Another processor's or another torch's sums differ in their last digits, no more.
    assert found == pytest.approx(kept, rel=1e-4)
    learnt, then = adapter(out), checkpoint.read_tensors(tmp_path / "adapter.safetensors")
    assert learnt.keys() == then.keys()
    for name, tensor in then.items():
        assert torch.allclose(learnt[name], tensor, rtol=1e-3, atol=1e-5), name
