"""A child process that is kept alive: restarted with backoff when it ends, told to drain when we stop, gone when we die.

The child's standard input is a pipe that nobody writes to. When this process ends, however it ends, the kernel closes the pipe
and the child reads the end of it: that is its sign to stop. A signal on the parent's death would come from the kernel only when
the *thread* that started the child ends, and on Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """How long to wait before starting a child again: doubling, and anew from the first wait once a child has lived `settled_s`."""

    first_s: float = 1.0
    longest_s: float = 30.0
    settled_s: float = 60.0

    def after(self, wait_s: float, lived_s: float) -> float:
        """The next wait, after one of `wait_s` (0: none yet) and a child that lived `lived_s`."""
        if wait_s == 0.0 or lived_s >= self.settled_s:
            return self.first_s
        return min(self.longest_s, wait_s * 2)


class Supervisor:
    """Keeps one child process running from `start` to `stop`."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        say: Callable[[str], None],
        restarts: Restarts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._say = say
        self._restarts = restarts or Restarts()
        self._clock = clock
        self._stopping = threading.Event()
        # Re-entrant: a signal handler may ask to stop while the same thread is at it.
        self._lock = threading.RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id of the child that runs now."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def start(self) -> None:
        """Start the child and keep it running."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Send SIGTERM and start no other child. Returns at once."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the child and what it started, at once."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def stop(self, grace_s: float) -> None:
        """Let the child drain for up to `grace_s`, then kill it. Returns when it is gone."""
        self.ask_to_stop()
        if self._thread.ident is None:
            return
        self._thread.join(grace_s)
        if self._thread.is_alive():
            self._say(f"the worker did not drain within {grace_s:.0f} s and is killed")
            self.kill()
            self._thread.join()

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                return
            if number is signal.SIGKILL:
                # The child leads its own session, so its group is what it started.
                os.killpg(self._child.pid, number)
            else:
                self._child.send_signal(number)

    def _keep(self) -> None:
        wait_s = 0.0
        while not self._stopping.is_set():
            started = self._clock()
            code = self._run_once()
            if self._stopping.is_set():
                return
            wait_s = self._restarts.after(wait_s, self._clock() - started)
            self._say(f"the worker {_ended(code)}; it is started again in {wait_s:.0f} s")
            self._stopping.wait(wait_s)

    def _run_once(self) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            child = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.PIPE, start_new_session=True
            )
            self._child = child
        code = child.wait()
        if child.stdin is not None:
            child.stdin.close()
        return code


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
