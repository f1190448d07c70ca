"""How a run begins and ends: the directory claimed, the device chosen, and the last event, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from cpd_engine import checkpoint, repro
from cpd_engine.config import ExaminationConfig, RunConfig
from cpd_engine.errors import EngineError, OutOfDeviceMemory, RunDirectoryMismatch, StopRequested, StorageFull
from cpd_engine.events import Emit, Event, Failed, Finished, Phase, RunStarted, Stopped
from cpd_engine.fleet import Fleet
from cpd_engine.inputs import Inputs
from cpd_engine.runtime import Runtime, choose_device, choose_precision
from cpd_engine.stages.context import Run

Config = TypeVar("Config", RunConfig, ExaminationConfig)


@contextmanager
def told(tell: Emit, emit: Emit, clock: Callable[[], float], phase: Callable[[], Phase]) -> Iterator[None]:
    """How the block ended, as the last event; every process may `emit` how it failed. `phase()`: the one it is in."""
    started = clock()
    try:
        with _known_failures():
            yield
    except StopRequested:
        tell(Stopped(phase=phase()))
        raise
    except EngineError as error:
        emit(Failed(code=error.code, message=str(error)))
        raise
    tell(Finished(duration_s=clock() - started))


def unheard(_event: Event) -> None:
    """What a process that does not lead would say."""


def open_run(
    config: Config,
    inputs: Inputs,
    out: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
    fleet: Fleet,
    *,
    also: str = "",
) -> Run[Config]:
    """Claim the directory for this config (and what `also` names) and settle device, precision and threads."""
    digest = hashlib.sha256((json.dumps(_decisive(config), sort_keys=True) + also).encode()).hexdigest()
    resumed = any(out.glob("*/"))
    if fleet.leads:
        out.mkdir(parents=True, exist_ok=True)
        _claim(out, config, digest, also)
        checkpoint.recover(out)
    fleet.wait()
    device = choose_device(fleet)
    precision = choose_precision(config.precision, device)
    threads = repro.be_deterministic(config.threads, device, processes=fleet.local_world)
    emit(
        RunStarted(
            config_sha256=digest,
            device=str(device),
            precision=precision,
            threads=threads,
            versions=repro.versions(),
            resumed=resumed,
            processes=fleet.world,
        )
    )
    runtime = Runtime(device=device, precision=precision, threads=threads, fleet=fleet)
    return Run(config=config, inputs=inputs, out=out, emit=emit, should_stop=should_stop, clock=clock, runtime=runtime)


def _decisive(config: RunConfig | ExaminationConfig) -> dict[str, Any]:
    """All but what it runs on: a run may go on with other resources."""
    return config.model_dump(mode="json", exclude={"resources"})


def _claim(out: Path, config: RunConfig | ExaminationConfig, digest: str, also: str) -> None:
    """Write down whose run this is, or see that it is the same one's."""
    path = out / "run.json"
    if not path.exists():
        written = {"sha256": digest, "config": config.model_dump(mode="json"), "also": also}
        checkpoint.write_json_atomically(path, written)
    found = checkpoint.read_json(path)
    if found["sha256"] != digest and not _same(found, config, also):
        raise RunDirectoryMismatch(f"{out} holds a run with other settings; name another directory, or empty this one")


def _same(found: Mapping[str, Any], config: RunConfig | ExaminationConfig, also: str) -> bool:
    """Whether an older version wrote it down, before there were settings of which this run has the defaults."""
    try:
        before = type(config).model_validate_json(json.dumps(found["config"]))
    except ValidationError:
        return False
    return found.get("also", "") == also and _decisive(before) == _decisive(config)


@contextmanager
def _known_failures() -> Iterator[None]:
    """Name the failures of the machine that can strike anywhere."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(
            "the accelerator's memory did not suffice; lower policy.batch_size, evaluation.generation.batch_size or max_length"
        ) from error
    except OSError as error:
        if checkpoint.is_disk_full(error):
            raise StorageFull("the disk is full; free space and run the job again") from error
        raise
