"""What one command of this benchmark measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.conditions import ROOT


def measured_apart(words: Sequence[str], threads: int) -> dict[str, Any]:
    """Run `python -m benchmarks.engine WORDS --threads N --out FILE` and read what it wrote. What else it says goes to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.engine", *words]
        command += ["--threads", str(threads), "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found
