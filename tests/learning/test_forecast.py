"""A probe tells what a run takes and changes nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cpd_engine import pipeline, repro
from cpd_engine.config import RunConfig
from cpd_engine.errors import StopRequested
from cpd_engine.events import Event, Forecasted, Planned, Progressed, Warned, to_dict
from cpd_engine.inputs import Inputs
from tests.learning.engine_runs import UNITS, contents, recipe

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.2}


def _config(folder: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate_json(recipe(folder, **changes).read_text())


def _run(config: RunConfig, out: Path, *, probes: bool) -> list[Event]:
    events: list[Event] = []
    pipeline.run(config, inputs=Inputs(), out=out, emit=events.append, should_stop=lambda: False, probes=probes)
    return events


def _estimate(config: RunConfig, out: Path) -> tuple[Forecasted, list[Event]]:
    events: list[Event] = []
    found = pipeline.estimate(config, inputs=Inputs(), out=out, emit=events.append, should_stop=lambda: False)
    return found, events


ON_POLICY = {"preset": "gkd", "policy": {"kind": "on", "max_new_tokens": 4}}


@pytest.mark.parametrize("changes", [{}, ON_POLICY, {"lora": LORA, "student": {"from": "teacher", "drop_layers": 1}}])
def test_a_run_that_was_probed_ends_in_the_bits_of_one_that_was_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = _config(tmp_path, **changes)
    plain, probed = tmp_path / "plain", tmp_path / "probed"
    _run(config, plain, probes=False)
    _run(config, probed, probes=True)
    assert contents(plain, *UNITS) == contents(probed, *UNITS)
    assert {path.name for path in plain.iterdir()} == {path.name for path in probed.iterdir()}


def test_a_probe_leaves_the_generators_where_they_were(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = repro.capture_state()
    _estimate(_config(tmp_path, lora=LORA), tmp_path / "out")
    after = repro.capture_state()
    assert all(torch.equal(after[name], state) for name, state in before.items())


def test_a_run_forecasts_before_the_profile_and_again_with_the_subsets_it_found(tmp_path: Path) -> None:
    events = _run(_config(tmp_path, preset="cpd"), tmp_path / "out", probes=True)
    first, second = [event for event in events if isinstance(event, Forecasted)]
    assert (first.exact, second.exact) == (False, True)
    assert first.least_s < first.duration_s < first.most_s
    (planned,) = [event for event in events if isinstance(event, Planned)]
    assert [phase.phase for phase in second.phases] == [
        "prepare",
        "teacher_sft",
        "profile",
        "train",
        "evaluate",
        "export",
    ]
    assert second.duration_s == pytest.approx(second.probe_s + sum(phase.duration_s for phase in second.phases))
    visited = planned.total_iterations * planned.batch_size
    assert 0 < second.tokens < visited * 256


def test_a_run_that_goes_on_is_not_probed_again(tmp_path: Path) -> None:
    config = _config(tmp_path, teacher_sft=None, epochs=1)
    _run(config, tmp_path / "out", probes=True)
    again = _run(config, tmp_path / "out", probes=True)
    assert not [event for event in again if isinstance(event, Forecasted)]


def test_a_run_of_seconds_is_not_held_up_by_a_probe(tmp_path: Path) -> None:
    events: list[Event] = []
    config = _config(tmp_path, teacher_sft=None, epochs=1)
    pipeline.run(config, inputs=Inputs(), out=tmp_path / "out", emit=events.append, should_stop=lambda: False)
    assert not [event for event in events if isinstance(event, Forecasted)]


def test_an_estimate_announces_nothing_as_sealed_and_a_run_may_go_on_with_what_it_prepared(tmp_path: Path) -> None:
    config, out = _config(tmp_path), tmp_path / "out"
    found, events = _estimate(config, out)
    kinds = [event.kind for event in events if not isinstance(event, Warned | Progressed)]
    assert kinds == [
        "run_started",
        "phase_started",
        "tokenizers_compared",
        "data_ready",
        "phase_finished",
        "forecasted",
        "finished",
    ]
    assert found.memory_bytes > 0
    assert found.disk_bytes > 0
    assert found.tokens_per_s > 0
    assert _run(config, out, probes=False)[-1].kind == "finished"


def test_an_estimate_that_is_asked_to_stop_says_so(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(StopRequested):
        pipeline.estimate(
            _config(tmp_path),
            inputs=Inputs(),
            out=tmp_path / "out",
            emit=events.append,
            should_stop=lambda: any(event.kind == "phase_finished" for event in events),
        )
    assert to_dict(events[-1]) == {"kind": "stopped", "phase": "prepare"}


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cpd_engine", "estimate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_the_command_prints_the_forecast_and_nothing_else(tmp_path: Path) -> None:
    done = _command(str(recipe(tmp_path)))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "forecasted"
    assert found["duration_s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.json"]


def test_the_command_fails_as_a_run_does(tmp_path: Path) -> None:
    done = _command(str(recipe(tmp_path, max_length=8)), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (20, "")
    assert "invalid_dataset: no train row is left" in done.stderr
