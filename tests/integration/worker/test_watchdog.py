"""The real engine's own watch over its worker."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.learning.engine_runs import recipe


def test_an_engine_whose_worker_is_gone_is_gone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cpd_engine",
        "run",
        str(recipe(tmp_path)),
        "--out",
        str(tmp_path / "out"),
        "--watchdog",
    ]
    engine = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    with engine.stdout:
        assert b"run_started" in engine.stdout.readline()
        # What the kernel does when the worker is killed.
        engine.stdin.close()
        engine.stdout.read()
    assert engine.wait(30) == -signal.SIGKILL
