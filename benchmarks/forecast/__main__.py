"""`python -m benchmarks.forecast`: each recipe is estimated, then run; what was forecast beside what happened, as CSV.

CPU seconds count what the run itself did and hold on a busy machine; seconds on the wall hold on an idle one.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.forecast.rows import write_rows

HERE = Path(__file__).parent
ROWS = {"gpt2": 700, "qwen2": 900}
LIMIT = 0.25
FIELDS = ("recipe", "quantity", "forecast", "happened", "error")


@dataclass(slots=True)
class Happened:
    """What a run took, by phase and as a whole."""

    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    memory_bytes: int = 0
    speeds: list[float] = field(default_factory=list)
    cache_bytes: int = 0


def main() -> int:
    """Every recipe in turn; 1 where a duration or a peak was missed by more than a quarter."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast")
    parser.add_argument("recipes", nargs="*", default=sorted(path.stem for path in (HERE / "recipes").glob("*.yaml")))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "forecast.csv")
    arguments = parser.parse_args()
    rows = [row for recipe in arguments.recipes for row in compare(recipe)]
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        file.write(
            f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch')}\n"
        )
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    missed = [row for row in rows if row["quantity"] in ("cpu_s", "memory_bytes") and abs(row["error"]) > LIMIT]
    for row in missed:
        print(f"{row['recipe']}: {row['quantity']} is off by {row['error']:+.0%}")
    return 1 if missed else 0


def compare(recipe: str) -> list[dict[str, Any]]:
    """What was forecast for a recipe and what came, quantity by quantity."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / f"{recipe}.yaml"
        spec.write_bytes((HERE / "recipes" / f"{recipe}.yaml").read_bytes())
        if recipe in ROWS:
            write_rows(Path(folder) / "rows.jsonl", ROWS[recipe])
        told = json.loads(engine("estimate", str(spec)).communicate()[0])
        came = run(spec, Path(folder) / "out")
    rows = [*_whole(told, came), *_phases(told, came)]
    for row in rows:
        row["recipe"] = recipe
        row["error"] = round(row["forecast"] / row["happened"] - 1.0, 3) if row["happened"] else 0.0
        print(
            f"{recipe:8} {row['quantity']:24} {row['forecast']:>16,.1f} {row['happened']:>16,.1f} {row['error']:+.1%}"
        )
    return rows


def _whole(told: Mapping[str, Any], came: Happened) -> list[dict[str, Any]]:
    # Timing the steps belongs to the estimate alone: a run this short is not probed.
    probe_cpu_s = told["cpu_s"] - sum(phase["cpu_s"] for phase in told["phases"])
    return [
        _row("duration_s", told["duration_s"] - told["probe_s"], sum(came.wall_s.values())),
        _row("cpu_s", told["cpu_s"] - probe_cpu_s, sum(came.cpu_s.values())),
        _row("memory_bytes", told["memory_bytes"], came.memory_bytes),
        _row("tokens_per_s", told["tokens_per_s"], sum(came.speeds) / len(came.speeds)),
        _row("cache_bytes", told["cache_bytes"], came.cache_bytes),
    ]


def _phases(told: Mapping[str, Any], came: Happened) -> list[dict[str, Any]]:
    return [
        _row(f"{phase['phase']} {clock}", phase[name], happened[phase["phase"]])
        for phase in told["phases"]
        for clock, name, happened in (("duration_s", "duration_s", came.wall_s), ("cpu_s", "cpu_s", came.cpu_s))
    ]


def _row(quantity: str, told: float, came: float) -> dict[str, Any]:
    return {"quantity": quantity, "forecast": round(told, 2), "happened": round(came, 2)}


def engine(*arguments: str) -> subprocess.Popen[str]:
    """The engine as a process of its own, its output on a pipe."""
    return subprocess.Popen([sys.executable, "-m", "cpd_engine", *arguments], stdout=subprocess.PIPE, text=True)


def run(spec: Path, out: Path) -> Happened:
    """Carry the recipe out and take down what its phases took."""
    came = Happened()
    process = engine("run", str(spec), "--out", str(out))
    assert process.stdout is not None
    began = 0.0
    for line in process.stdout:
        event = json.loads(line)
        match event["kind"]:
            case "phase_started":
                began = _cpu_s(process.pid)
            case "phase_finished":
                came.wall_s[event["phase"]] = event["duration_s"]
                came.cpu_s[event["phase"]] = _cpu_s(process.pid) - began
            case "measured" if event["trained"] == "student":
                came.speeds.append(event["tokens_per_s"])
            case "teacher_states_planned" if event["kept"] != "off":
                came.cache_bytes = event["states_bytes"]
            case "failed":
                raise RuntimeError(event["message"])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    came.memory_bytes = usage.ru_maxrss * 1024
    return came


def _cpu_s(pid: int) -> float:
    """Processor seconds of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
