"""Whole runs whose teacher is asked once: the same losses, no body in memory, and nothing of it loaded by the next job."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from pyarrow import feather
from transformers import LlamaForCausalLM

from cpd_engine import pipeline
from cpd_engine.config import RunConfig
from cpd_engine.errors import StopRequested
from cpd_engine.events import Event, Measured, Progressed, to_dict
from cpd_engine.inputs import Inputs
from tests.learning.engine_runs import contents, measured, recipe

TINY = {"tiny": "llama", "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 400}
QUICK: dict[str, Any] = {
    "teacher_sft": None,
    "epochs": 2,
    "evaluation": {
        "validation_metric": "ce",
        "validation_rows": 4,
        "test_rows": 3,
        "generation": {"max_new_tokens": 4},
    },
}
Told = list[dict[str, Any]]


def _config(folder: Path, *, cache: str, top_k: int | None = None, **changes: Any) -> RunConfig:
    teacher = changes.pop("teacher", TINY)
    changes = QUICK | changes | {"teacher": teacher | {"cache": cache, "top_k": top_k}}
    return RunConfig.model_validate_json(recipe(folder, **changes).read_text())


def _bodies() -> list[object]:
    """Every model of the teacher's kind that is in memory."""
    return [thing for thing in gc.get_objects() if type(thing) is LlamaForCausalLM]


class Ran:
    """A run in this process, what it told, and whether a body of the teacher's kind was in memory at every student's step."""

    def __init__(self, config: RunConfig, out: Path, inputs: Inputs, *, stop_at: int | None = None, full: bool = False):
        self.events: Told = []
        self.bodies: list[int] = []
        self._full = full
        self._stop_at = stop_at
        # What other tests of this process have left alive, such as one that failed, is not of this run.
        gc.collect()
        self._before = {id(thing) for thing in _bodies()}
        try:
            pipeline.run(config, inputs=inputs, out=out, emit=self._hear, should_stop=self._stopping)
        except StopRequested:
            assert stop_at is not None

    def _hear(self, event: Event) -> None:
        self.events.append(json.loads(json.dumps(to_dict(event))))
        if isinstance(event, Measured) and event.trained == "student":
            self.bodies.append(sum(id(body) not in self._before for body in _bodies()))
        if self._full and isinstance(event, Progressed) and event.label == "states of the teacher":
            self._full = False
            raise OSError(errno.ENOSPC, "No space left on device")

    def _stopping(self) -> bool:
        return self._stop_at is not None and len(self.bodies) >= self._stop_at

    def of(self, kind: str) -> Told:
        return [event for event in self.events if event["kind"] == kind]

    @property
    def planned(self) -> dict[str, Any]:
        (found,) = self.of("teacher_states_planned")
        return found

    @property
    def losses(self) -> list[float]:
        return [event["values"]["loss"] for event in self.of("measured") if event["trained"] == "student"]

    @property
    def filled(self) -> int:
        return sum(event["label"] == "states of the teacher" for event in self.of("progressed"))


def _shared(root: Path) -> Inputs:
    return Inputs(state_cache=root / "states")


def test_a_teacher_asked_once_gives_the_losses_of_one_that_is_always_there(tmp_path: Path) -> None:
    always, *once = (
        Ran(_config(tmp_path, cache=cache), tmp_path / cache, _shared(tmp_path)) for cache in ("off", "memory", "disk")
    )
    assert always.planned["kept"] == "off"
    assert min(always.bodies) >= 1
    for ran, kept in zip(once, ("memory", "disk"), strict=True):
        assert ran.planned["kept"] == kept
        assert ran.filled > 0
        assert set(ran.bodies) == {0}
        assert ran.losses == pytest.approx(always.losses, rel=1e-5)
    assert once[0].losses == once[1].losses


def test_the_plan_tells_size_and_saving_before_the_teacher_is_asked(tmp_path: Path) -> None:
    ran = Ran(_config(tmp_path, cache="auto"), tmp_path / "out", _shared(tmp_path))
    kinds = [event["kind"] for event in ran.events]
    labels = [event.get("label") for event in ran.events]
    assert kinds.index("planned") < kinds.index("teacher_states_planned") < labels.index("states of the teacher")
    tokens = ran.of("data_ready")[0]["supervised_tokens"]
    sizes = [epoch["subset_size"] for epoch in ran.of("planned")[0]["epochs"]]
    assert ran.planned["states_bytes"] == tokens * 32 * 4
    assert ran.planned["passes_without"] == pytest.approx(2 * sum(sizes) / ran.of("planned")[0]["samples"])
    assert ran.planned["passes_with"] == 1.0
    assert ran.planned["operations_ratio"] > 1.2


def _local(folder: Path, **changes: Any) -> Path:
    """A teacher under a folder of models, as another run made it."""
    Ran(_config(folder, cache="off", epochs=1), folder / "maker", Inputs())
    (folder / "models").mkdir()
    model = folder / "models" / "mentor"
    shutil.copytree(folder / "maker" / "base-teacher", model)
    (model / "manifest.json").unlink()
    return folder / "models"


def test_a_second_job_on_the_same_teacher_and_data_never_reads_its_weights(tmp_path: Path) -> None:
    inputs = Inputs(model_roots=(_local(tmp_path),), state_cache=tmp_path / "states")
    # Which asks for the teacher's scores as well.
    config = _config(tmp_path, cache="auto", teacher={"local": "mentor"}, difficulty="teacher_ce")
    first = Ran(config, tmp_path / "first", inputs)
    weights = tmp_path / "models" / "mentor" / "model.safetensors"
    before, state = weights.read_bytes(), weights.stat()
    # Every weight is NaN now, under the size, time and inode of the file that was read; its header still names the shapes.
    header = 8 + int.from_bytes(before[:8], "little")
    with weights.open("r+b") as file:
        file.seek(header)
        file.write(b"\xff" * (len(before) - header))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = Ran(config, tmp_path / "second", inputs)
    assert second.planned["cached"]
    assert second.planned["passes_with"] == 0.0
    assert second.filled == 0
    assert second.losses == first.losses
    assert second.of("reported") == first.of("reported")
    units = ("profile", "trained", "evaluation", "report")
    assert contents(tmp_path / "second", *units) == contents(tmp_path / "first", *units)


def test_a_second_job_asks_only_the_models_it_has_trained(tmp_path: Path) -> None:
    def asked(ran: Ran) -> set[str]:
        return {event["label"] for event in ran.of("progressed") if event["label"].startswith("answers of")}

    first, second = (Ran(_config(tmp_path, cache="disk"), tmp_path / name, _shared(tmp_path)) for name in "ab")
    assert asked(first) == {"answers of teacher", "answers of untouched", "answers of student"}
    assert asked(second) == {"answers of student"}
    assert first.of("reported") == second.of("reported")


def test_states_evicted_between_two_attempts_are_made_again_bit_for_bit(tmp_path: Path) -> None:
    config = _config(tmp_path, cache="disk")
    whole = Ran(config, tmp_path / "whole", Inputs(state_cache=tmp_path / "other"))
    stopped = Ran(config, tmp_path / "out", _shared(tmp_path), stop_at=5)
    assert len(stopped.bodies) < len(whole.bodies)
    shutil.rmtree(tmp_path / "states")
    resumed = Ran(config, tmp_path / "out", _shared(tmp_path))
    assert resumed.filled > 0
    assert measured(stopped.events + resumed.events) == measured(whole.events)
    assert contents(tmp_path / "out", "trained") == contents(tmp_path / "whole", "trained")


def test_a_disk_that_fills_up_under_the_states_moves_them_to_memory(tmp_path: Path) -> None:
    config = _config(tmp_path, cache="auto")
    ran = Ran(config, tmp_path / "out", _shared(tmp_path), full=True)
    (warned,) = [event for event in ran.of("warned") if event["code"] == "teacher_states"]
    assert "now: memory" in warned["message"]
    assert set(ran.bodies) == {0}
    assert ran.losses == Ran(config, tmp_path / "whole", Inputs(state_cache=tmp_path / "other")).losses
    assert not [path for path in (tmp_path / "states").iterdir() if path.is_dir() and "-" not in path.name]


def test_a_cap_too_small_and_a_folder_that_cannot_be_used_end_no_job(tmp_path: Path) -> None:
    small = Ran(
        _config(tmp_path, cache="disk"), tmp_path / "small", Inputs(state_cache=tmp_path / "s", state_cache_bytes=9)
    )
    (tmp_path / "file").write_text("")
    none = Ran(_config(tmp_path, cache="auto"), tmp_path / "none", Inputs(state_cache=tmp_path / "file"))
    for ran in (small, none):
        assert "teacher_states" in [event["code"] for event in ran.of("warned")]
        assert ran.planned["kept"] == "memory"
        assert ran.events[-1]["kind"] == "finished"


def test_a_run_without_a_shared_folder_keeps_its_own_and_cleans_it_up(tmp_path: Path) -> None:
    config = _config(tmp_path, cache="disk")
    stopped = Ran(config, tmp_path / "out", Inputs(), stop_at=5)
    assert list((tmp_path / "out" / "states").glob("*/sealed.json"))
    resumed = Ran(config, tmp_path / "out", Inputs())
    assert resumed.planned["cached"]
    assert resumed.filled == 0
    assert not (tmp_path / "out" / "states").exists()
    assert measured(stopped.events + resumed.events)


def test_difficulty_by_the_teacher_and_its_states_are_one_pass(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"difficulty": "teacher_ce", "curriculum": "calibrated_affine"}
    found = {}
    for cache in ("off", "memory", "disk"):
        ran = Ran(_config(tmp_path, cache=cache, **changes), tmp_path / cache, _shared(tmp_path))
        found[cache] = feather.read_table(tmp_path / cache / "profile" / "scores.arrow")["teacher_ce_sum"].to_pylist()
        phases = [event["phase"] for event in ran.of("progressed") if event["label"] == "states of the teacher"]
        assert set(phases) == (set() if cache == "off" else {"profile"})
    assert found["memory"] == pytest.approx(found["off"], rel=1e-5)
    assert found["disk"] == found["memory"]


@pytest.mark.parametrize("preset", ["kld", "rkl"])
def test_top_k_of_all_ids_leaves_one_for_the_rest(preset: str, tmp_path: Path) -> None:
    whole, all_ids = (
        Ran(_config(tmp_path, cache="memory", top_k=k, preset=preset), tmp_path / f"out-{k}", _shared(tmp_path))
        for k in (None, 65536)
    )
    assert all_ids.losses == pytest.approx(whole.losses, rel=1e-4)


def test_top_k_of_all_ids_is_the_whole_teacher_and_of_few_ids_a_smaller_divergence(tmp_path: Path) -> None:
    whole, all_ids, few = (
        Ran(_config(tmp_path, cache=cache, top_k=k), tmp_path / f"out-{k}", _shared(tmp_path))
        for cache, k in (("memory", None), ("disk", 65536), ("disk", 8))
    )
    assert all_ids.losses == pytest.approx(whole.losses, rel=1e-4)
    first = [ran.of("measured")[0]["values"] for ran in (whole, few)]
    assert first[1]["ce"] == pytest.approx(first[0]["ce"])
    assert 0.0 < first[1]["kd"] < first[0]["kd"]
    taus = {epoch["temperature"] for epoch in few.of("planned")[0]["epochs"]}
    tokens = few.of("data_ready")[0]["supervised_tokens"]
    assert few.planned["states_bytes"] == 4 * tokens * (2 * 8 + len(taus) + 1)
