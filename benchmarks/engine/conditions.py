"""Machine, versions and commit of a run."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime
from importlib import metadata, util
from pathlib import Path

from benchmarks.engine.report import Conditions

ROOT = Path(__file__).resolve().parents[2]


def conditions(now: datetime) -> Conditions:
    """As they are here at `now`; a commit with uncommitted changes ends in "+"."""
    return Conditions(
        date=now.date().isoformat(),
        commit=_commit(),
        machine=_processor(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        torch=metadata.version("torch"),
        transformers=metadata.version("transformers"),
        trl=metadata.version("trl") if util.find_spec("trl") else "",
    )


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S607  # whichever git made the clone

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = next((line for line in lines if line.startswith("model name")), f": {platform.machine()}")
    return named.partition(":")[2].strip()
