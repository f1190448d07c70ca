"""How each archive here was made: `python -m tests.learning.golden.making VERSION`, on a version whose checkpoints are to be read for ever.

A run of a tiny decoder with LoRA is broken off after its second training state. What is sealed then is kept, the settings with all
their defaults, and what the run left when it had gone on.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cpd_engine import checkpoint, pipeline
from cpd_engine.config import RunConfig
from cpd_engine.events import Checkpointed, Event, Measured
from cpd_engine.inputs import Inputs

HERE = Path(__file__).parent
SPEC: dict[str, Any] = {
    "teacher": {"tiny": "llama", "layers": 1, "hidden": 16, "heads": 1, "vocabulary": 300},
    "student": {"tiny": "llama", "layers": 1, "hidden": 16, "heads": 1, "vocabulary": 300, "seed": 1},
    "dataset": {"synthetic": {"rows": 100, "seed": 1}},
    "lora": {"rank": 2, "alpha": 4.0, "dropout": 0.1},
    "epochs": 2,
    "max_length": 320,
    "threads": 1,
    "seed": 7,
    "optimizer": {"batch_size": 8, "learning_rate": 0.01},
    "evaluation": {"validation_rows": 0, "test_rows": 2, "generation": {"max_new_tokens": 2}},
    "checkpoints": {"every_steps": 4, "keep": 1},
}
BROKEN_AT = 8
KEPT = ("prepared", "base-teacher", "base-student", f"train/{checkpoint.state_name(BROKEN_AT)}")


class _Broken(BaseException):
    """Stands for a kill."""


def carried_on(config: RunConfig, out: Path, heard: Callable[[Event], None]) -> list[Event]:
    """The run, or what is left of it in `out`."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        heard(event)

    pipeline.run(config, inputs=Inputs(), out=out, emit=emit, should_stop=lambda: False)
    return events


def losses(events: list[Event]) -> dict[int, float]:
    """The loss of each optimizer step."""
    return {event.step: event.values["loss"] for event in events if isinstance(event, Measured)}


def adapter(out: Path) -> dict[str, torch.Tensor]:
    """What was learnt."""
    return checkpoint.read_tensors(out / "export" / "adapter" / "adapter_model.safetensors")


def make(version: str, out: Path) -> None:
    """Write the archive of `version`."""

    def break_off(event: Event) -> None:
        if isinstance(event, Checkpointed) and event.step == BROKEN_AT:
            raise _Broken

    kept = out.with_name("kept")
    config = RunConfig.model_validate(SPEC).resolved()
    with suppress(_Broken):
        carried_on(config, out, break_off)
    for unit in KEPT:
        shutil.copytree(out / unit, kept / "sealed" / unit)
    events = carried_on(config, out, lambda _: None)
    # As a job's row keeps it: defaults may change, and a job that waits does not.
    checkpoint.write_json(kept / "config.json", config.model_dump(mode="json"))
    checkpoint.write_json(kept / "losses.json", {str(step): loss for step, loss in losses(events).items()})
    checkpoint.write_tensors(kept / "adapter.safetensors", adapter(out))
    with tarfile.open(HERE / f"{version}.tar.gz", "w:gz") as archive:
        archive.add(kept, arcname=".", filter=_nobody)
    print(json.dumps({"bytes": (HERE / f"{version}.tar.gz").stat().st_size, "steps": sorted(losses(events))}))


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        make(sys.argv[1], Path(folder) / "out")
