"""A disk that is really full: what was sealed stays whole, older states make room, and the rest says `insufficient_storage`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from api.jobs.states import JobState
from cpd_engine import checkpoint, pipeline
from cpd_engine.config import OptimizerSpec, RunConfig
from cpd_engine.errors import StorageFull
from cpd_engine.events import Checkpointed, Event, Failed, Finished
from cpd_engine.inputs import Inputs
from cpd_engine.keeper import Keeper, Place
from cpd_engine.learner import Learner
from tests.backends import Backend
from tests.integration.checkpoints.small_disk import SmallDisk, small_disk
from tests.integration.worker.fleet import Fleet, assert_as_unbroken
from tests.learning.engine_runs import UNITS, contents, recipe
from tests.learning.small_models import CPU, decoder

STATE_BYTES = 400_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 2_000_000) as made:
        yield made


def seal(path: Path, size_bytes: int) -> None:
    with checkpoint.sealing(path) as draft:
        checkpoint.write_tensors(draft / "weights.safetensors", {"w": torch.ones(size_bytes // 8)})
        (draft / "more").write_bytes(bytes(size_bytes // 2))


def test_what_does_not_fit_leaves_nothing_and_harms_nothing(disk: SmallDisk) -> None:
    first, second = disk.path / "step-000001", disk.path / "step-000002"
    seal(first, STATE_BYTES)
    # Full while the tensors, while another file, and while the manifest is written.
    for left in (STATE_BYTES // 4, STATE_BYTES * 3 // 4, STATE_BYTES + 4096):
        disk.fill(but=left)
        with pytest.raises(StorageFull):
            seal(second, STATE_BYTES)
        disk.free()
        checkpoint.verify(first)
        assert [path.name for path in disk.path.iterdir()] == ["step-000001"]
    seal(second, STATE_BYTES)
    checkpoint.verify(second)


def test_a_state_that_does_not_fit_takes_the_room_of_all_but_the_newest(disk: SmallDisk, tmp_path: Path) -> None:
    events: list[Event] = []
    learner = Learner(decoder(tmp_path / "models"), spec=OptimizerSpec(), runtime=CPU)
    place = Place(out=disk.path, folder="train", prefix="", every=1, keep=3)
    keeper = Keeper(place, metric="ce", emit=events.append)

    def save(step: int) -> None:
        learner.step = step
        keeper.save(learner, epoch=1)

    save(1)
    size = sum(file.stat().st_size for file in (disk.path / "train").rglob("*") if file.is_file())
    save(2)
    disk.fill(but=size // 2)
    save(3)
    assert [path.name for path in checkpoint.states(disk.path / "train")] == ["step-000002", "step-000003"]
    told = [event.retained for event in events if isinstance(event, Checkpointed)]
    assert told[-1] == ("step-000002", "step-000003")
    # Now there is nothing left to make room with.
    disk.free()
    checkpoint.prune(disk.path / "train", keep=1)
    disk.fill()
    with pytest.raises(StorageFull):
        save(4)
    assert checkpoint.verify(disk.path / "train" / "step-000003")


def run(config: RunConfig, out: Path) -> list[Event]:
    events: list[Event] = []
    pipeline.run(config, inputs=Inputs(), out=out, emit=events.append, should_stop=lambda: False)
    return events


def test_a_run_on_a_full_disk_says_so_and_goes_on_to_the_same_student_once_there_is_room(tmp_path: Path) -> None:
    evaluation = {"validation_rows": 0, "test_rows": 2}
    spec = recipe(tmp_path, teacher_sft=None, epochs=2, evaluation=evaluation)
    config = RunConfig.model_validate_json(spec.read_bytes())
    run(config, tmp_path / "whole")
    used = sum(file.stat().st_size for file in (tmp_path / "whole").rglob("*") if file.is_file())
    with small_disk(tmp_path / "disk", used * 2 // 3) as disk:
        out = disk.path / "run"
        events: list[Event] = []
        with pytest.raises(StorageFull):
            pipeline.run(config, inputs=Inputs(), out=out, emit=events.append, should_stop=lambda: False)
        assert isinstance(events[-1], Failed)
        assert events[-1].code == "insufficient_storage"
        standing = [
            out / event.path for event in events if isinstance(event, Checkpointed) and (out / event.path).exists()
        ]
        assert standing
        for path in standing:
            checkpoint.verify(path)
        disk.resize(used * 4)
        assert isinstance(run(config, out)[-1], Finished)
        assert contents(out, *UNITS[:2], *UNITS[3:]) == contents(tmp_path / "whole", *UNITS[:2], *UNITS[3:])


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_whose_scratch_is_full_says_so_and_works_on_once_there_is_room(
    backend: Backend, disk: SmallDisk, tmp_path: Path
) -> None:
    fleet = Fleet(backend=backend, folder=tmp_path)
    try:
        gate = tmp_path / "gate"
        job_id = fleet.submit(steps="3000", every="2000", gate_step="5", gate=str(gate))
        fleet.start(scratch_dir=str(disk.path / "scratch"))
        fleet.wait_step(job_id, 4)
        disk.fill()
        gate.touch()
        job = fleet.wait_state(job_id, JobState.FAILED)
        assert job.failure_code == "insufficient_storage"
        # Whoever frees space and submits again has a worker that still works.
        disk.free()
        again = fleet.submit(steps="20")
        fleet.wait_state(again, JobState.SUCCEEDED)
        assert_as_unbroken(fleet, again, 20)
    finally:
        fleet.close()
