"""A worker process that compares final answers, started again where one of them was more than it could bear."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from types import TracebackType

# math-verify gives up a comparison after some seconds by itself, but not in the midst of one huge multiplication.
PATIENCE_S = 30.0


class Verifier:
    """Use as a context: the process ends with the block."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Verifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def equal(self, gold: str, answer: str) -> bool:
        """Whether the answer equals the gold one. One that ends or outlasts the process counts as wrong."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"gold": gold, "answer": answer}).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self._patience_s)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        if not line:
            self._end()
            return False
        return bool(json.loads(line))

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cpd_engine.evaluation.verifying"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            with self._process:
                self._process = None
