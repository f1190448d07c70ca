"""What data costs, stage by stage, in processes of their own: CPU seconds and memory above the start.

    python -m benchmarks.scale --rows 10000 100000 1000000 --out benchmarks/scale/results.csv

Linux only: memory is what the kernel counts in /proc.
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
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "pyarrow", "tokenizers", "transformers")
_STATUS = Path("/proc/self/status")


def main() -> None:
    """Measure every stage at every size; with --stage, one of them in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, help="CSV file; printed where there is none")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage is not None:
        print(json.dumps(measure(given.stage, given.folder, given.rows[0])))
        return
    lines = [line for rows in given.rows for line in all_stages(rows)]
    with given.out.open("w", newline="") if given.out else os.fdopen(os.dup(1), "w") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def all_stages(rows: int) -> list[dict[str, Any]]:
    """A line a stage, each measured in a fresh process over one folder."""
    from benchmarks.scale.job import STAGES

    with tempfile.TemporaryDirectory(prefix="cpd-scale-") as folder:
        lines = []
        for stage in ("source", *STAGES):
            command = [
                sys.executable,
                "-m",
                "benchmarks.scale",
                "--stage",
                stage,
                "--folder",
                folder,
                "--rows",
                str(rows),
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            if stage != "source":
                lines.append({"rows": rows, "stage": stage} | json.loads(done.stdout) | machine())
                print(lines[-1], file=sys.stderr)
        return lines


def measure(stage: str, folder: Path, rows: int) -> dict[str, float]:
    """Run one stage in this process.

    `added_mb`: peak resident memory above what it was at the start. `mapped_mb`: pages of files among what the stage's result
    holds, which count as resident though the kernel may drop them. `written_mb`: what the stage left on the disk.
    """
    from benchmarks.scale.job import STAGES, open_run, write_source

    if stage == "source":
        write_source(folder, rows)
        return {}
    run = open_run(folder, emit=lambda _: None)
    files = _size(run.out)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start, mapped, cpu = _memory("VmRSS"), _memory("RssFile"), time.process_time()
    kept = STAGES[stage](run)
    cpu_s = round(time.process_time() - cpu, 2)
    mapped = _memory("RssFile") - mapped
    del kept
    return {
        "cpu_s": cpu_s,
        "start_mb": round(start / 1e6),
        "added_mb": round((_memory("VmHWM") - start) / 1e6),
        "mapped_mb": round(mapped / 1e6),
        "written_mb": round((_size(run.out) - files) / 1e6),
    }


def machine() -> dict[str, str]:
    """What it was measured on and with."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told = f"{os.cpu_count()} x {names[0] if names else platform.machine()}, {memory / 2**30:.0f} GiB"
    return {"machine": told, "python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _memory(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    found = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(found.split()[1])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
