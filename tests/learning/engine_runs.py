"""Runs of the real engine command on small recipes, and what there is to compare about two of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def recipe(folder: Path, **changes: Any) -> Path:
    """A recipe that takes some seconds: two tiny decoders, the project's own data, every phase, a CE-only twin."""
    spec: dict[str, Any] = {
        "teacher": {"tiny": "llama", "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 400},
        "student": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 400, "seed": 1},
        "dataset": {"synthetic": {"rows": 108, "seed": 1}},
        "preset": "cpd",
        "epochs": 3,
        "min_fraction": 0.3,
        "max_length": 256,
        "threads": 1,
        "optimizer": {"batch_size": 8, "micro_batch_size": 4, "learning_rate": 0.003},
        "teacher_sft": {"epochs": 1, "optimizer": {"learning_rate": 0.003}},
        "evaluation": {
            "validation_rows": 4,
            "test_rows": 5,
            "baselines": ["sft"],
            "generation": {"max_new_tokens": 6, "temperature": 1.0},
        },
        "checkpoints": {"every_steps": 4, "keep": 2},
    }
    path = folder / "recipe.json"
    path.write_text(json.dumps(spec | changes))
    return path


def start(spec: Path, out: Path, *more: str, **options: Any) -> subprocess.Popen[str]:
    """The engine command in a session of its own, its events on a pipe."""
    command = [sys.executable, "-m", "cpd_engine", "run", str(spec), "--out", str(out), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def run_until(process: subprocess.Popen[str], seen: Callable[[Event], bool], number: signal.Signals) -> list[Event]:
    """Read events until one is `seen`, send the signal, and return all events that still came out."""
    events: list[Event] = []
    sent = False
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # cut short by the kill
            events.append(json.loads(line))
            if not sent and seen(events[-1]):
                os.kill(process.pid, number)
                sent = True
        _, errors = process.communicate()
    assert sent, f"the run ended before the signal was due: {events[-1:]} {errors}"
    return events


def run_to_end(process: subprocess.Popen[str]) -> list[Event]:
    """Every event of a run that must succeed."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return [json.loads(line) for line in output.splitlines()]


def measured(events: Iterable[Event]) -> dict[tuple[str, int], dict[str, float]]:
    """The values of every optimizer step by training and step; a step that was taken twice must have given the same."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for event in events:
        if event["kind"] == "measured":
            values = found.setdefault((event["trained"], event["step"]), event["values"])
            assert values == event["values"]
    return found


def evaluated(events: Iterable[Event]) -> dict[tuple[Any, ...], dict[str, float]]:
    """The scores of every evaluation; one that was made twice must have given the same."""
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    for event in events:
        if event["kind"] == "evaluated":
            place = (event["subject"], event["split"], event["step"])
            metrics = found.setdefault(place, event["metrics"])
            assert metrics == event["metrics"]
    return found


def contents(out: Path, *units: str) -> dict[str, bytes]:
    """Every file of the named sealed directories."""
    files = [file for unit in units for file in sorted((out / unit).rglob("*")) if file.is_file()]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


UNITS = ("prepared", "encoded", "teacher", "profile", "trained", "evaluation", "report", "export")
