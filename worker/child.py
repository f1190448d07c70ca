"""The engine as a child process that cannot outlive its worker.

It gets three pipes: stdin is the watchdog, whose end of file kills it when the worker dies, even by SIGKILL; events come as JSON lines on
a pipe of their own; what it prints goes to a bounded log. Every pipe is close-on-exec, so no other child can hold the watchdog open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from cpd_engine.inputs import JUDGE_KEY, JudgeEndpoint
from worker.bounded_log import BoundedLog

# What a worker holds and an engine has no use for: database and broker passwords, keys of the store.
SECRET_PREFIXES = ("CPD_", "AWS_")
MAX_LINE_BYTES = 8 * 2**20
_CHUNK_BYTES = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """What to start. `program` is usually `python -m cpd_engine`."""

    program: tuple[str, ...]
    verb: Literal["run", "estimate", "table"] = "run"
    spec: Path
    out: Path
    datasets: Mapping[str, Path]
    model_roots: tuple[Path, ...] = ()
    hub_cache: Path | None = None
    hub_endpoint: str | None = None
    state_cache: Path | None = None
    state_cache_bytes: int | None = None
    code_execution: bool = False
    judge: JudgeEndpoint | None = None

    def arguments(self, events_fd: int) -> list[str]:
        """The argument list, with events on file descriptor `events_fd`."""
        arguments = [*self.program, self.verb, str(self.spec), "--out", str(self.out)]
        arguments += ["--events-fd", str(events_fd), "--watchdog"]
        for name, path in self.datasets.items():
            arguments += ["--dataset", f"{name}={path}"]
        for root in self.model_roots:
            arguments += ["--model-root", str(root)]
        judge = self.judge
        given = {
            "--hub-cache": self.hub_cache,
            "--hub-endpoint": self.hub_endpoint,
            "--state-cache": self.state_cache,
            "--state-cache-bytes": self.state_cache_bytes,
            "--code-execution": "bubblewrap" if self.code_execution else None,
            "--judge-url": judge and judge.url,
            "--judge-model": judge and judge.model,
            "--judge-prompt-price": judge and judge.prompt_price,
            "--judge-completion-price": judge and judge.completion_price,
            "--judge-concurrency": judge and judge.concurrency,
        }
        for name, value in given.items():
            if value is not None:
                arguments += [name, str(value)]
        return arguments


def engine_environment(
    environment: Mapping[str, str], *, temporary: Path, judge: JudgeEndpoint | None = None
) -> dict[str, str]:
    """The worker's environment without secrets but the judge's key, which no argument may show; temporary files end with the attempt."""
    kept = {name: value for name, value in environment.items() if not name.startswith(SECRET_PREFIXES)}
    key = {} if judge is None or judge.api_key is None else {JUDGE_KEY: judge.api_key}
    return kept | key | {"TMPDIR": str(temporary)}


class Child:
    """A running engine: its exit status, its tail of log, and the two ways to end it. Starts in the constructor.

    `on_lines` gets whole event lines without their newline, in order, from a thread of this object; while it blocks, the
    engine's pipe fills and the engine waits. `on_exit` is called once, after the last line, when nothing of the process group is
    left.
    """

    def __init__(
        self,
        arguments: Callable[[int], Sequence[str]],
        *,
        environment: Mapping[str, str],
        log: Path,
        log_bytes: int,
        on_lines: Callable[[list[bytes]], None],
        on_exit: Callable[[], None],
    ) -> None:
        self._on_lines, self._on_exit = on_lines, on_exit
        self._log = BoundedLog(log, log_bytes)
        self._signals = threading.Lock()
        self._reaped = False
        self._stop_at: float | None = None
        self._returncode: int | None = None
        # Popen's own pipe and os.pipe() are close-on-exec: only the child's copies of its own ends survive its exec.
        events, events_out = os.pipe()
        output, output_in = os.pipe()
        try:
            self._process = _engine(arguments(events_out), environment, events=events_out, output=output_in)
        except BaseException:
            os.close(events)
            os.close(output)
            self._log.close()
            raise
        finally:
            os.close(events_out)
            os.close(output_in)
        self._events = _started("engine-events", self._pump_events, events)
        self._output = _started("engine-log", self._pump_output, output)
        self._waiter = _started("engine-wait", self._wait)

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its group and session."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, −signal, or None while it runs or its last lines are still being read."""
        return self._returncode

    def log_tail(self) -> str:
        """The last few KB that the engine printed."""
        return self._log.tail()

    def tell(self, line: bytes) -> None:
        """Write a line to the standard input of an engine that reads it. Raises OSError where it is gone."""
        assert self._process.stdin is not None
        rest = memoryview(line)
        while rest:
            rest = rest[self._process.stdin.write(rest) or 0 :]

    def ask_to_stop(self) -> None:
        """SIGTERM, once: the engine seals a checkpoint and exits with 10."""
        if self._stop_at is None:
            self._stop_at = monotonic()
            with self._signals:
                if not self._reaped:
                    os.kill(self.pid, signal.SIGTERM)

    def asked_for_s(self) -> float | None:
        """Seconds since `ask_to_stop`, None before."""
        return None if self._stop_at is None else monotonic() - self._stop_at

    def kill(self) -> None:
        """SIGKILL to the whole group, now. Harmless when it is gone already."""
        with self._signals:
            # Until the leader is reaped its id, which is the group's, cannot be another's. No group: it died before it led one.
            if not self._reaped:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)

    def join(self, timeout_s: float) -> int | None:
        """Wait for the end and return `returncode`."""
        self._waiter.join(timeout_s)
        return self._returncode

    def close(self) -> None:
        """Kill what still runs and wait until it is gone."""
        self.kill()
        self._waiter.join()

    def _wait(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        # Helpers of the engine would keep the pipes open and the machine busy.
        self.kill()
        # A process that left the session can still hold a pipe; what it writes is none of ours.
        self._events.join(timeout=30)
        self._output.join(timeout=1)
        with self._signals:
            returncode = self._process.wait()
            self._reaped = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._log.close()
        self._returncode = returncode
        self._on_exit()

    def _pump_events(self, events: int) -> None:
        with open(events, "rb", buffering=0) as pipe:
            for lines in whole_lines(iter(lambda: pipe.read(_CHUNK_BYTES), b"")):
                self._on_lines(lines)

    def _pump_output(self, output: int) -> None:
        with open(output, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_CHUNK_BYTES):
                self._log.write(chunk)


def _engine(
    arguments: Sequence[str], environment: Mapping[str, str], *, events: int, output: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=(events,),
        env=dict(environment),
        bufsize=0,
        start_new_session=True,
    )


def _started(name: str, work: Callable[..., None], *given: int) -> threading.Thread:
    thread = threading.Thread(target=work, args=given, name=name, daemon=True)
    thread.start()
    return thread


def whole_lines(chunks: Iterator[bytes], *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[list[bytes]]:
    """Cut a stream into lines, several at a time. A line longer than `max_bytes` comes out empty, so that line numbers hold.

    A last line without newline is half a line of a killed engine and is dropped.
    """
    rest, too_long = b"", False
    for chunk in chunks:
        *lines, last = chunk.split(b"\n")
        if lines:
            first = b"" if too_long or len(rest) + len(lines[0]) > max_bytes else rest + lines[0]
            yield [first, *lines[1:]]
            rest, too_long = b"", False
        too_long = too_long or len(rest) + len(last) > max_bytes
        rest = b"" if too_long else rest + last
