"""Runs programs that a model has written. Fails closed: without a bubblewrap that was just seen to confine, nothing runs."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import resources
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any

from cpd_engine.errors import SandboxUnavailable, StopRequested
from cpd_engine.evaluation.confinement import FIRST_USER, USERS, Confinement
from cpd_engine.evaluation.examination import Examined, Limits, examined
from cpd_engine.evaluation.trial import require_confined

_GUESTS = "cpd_engine.evaluation.guests"
_MODULES = {
    "program": ("wire", "program"),
    "tests": ("wire", "remote", "tally", "checks", "inputs", "tests"),
}
_VERDICT_BYTES = 2**16
_WORDS_BYTES = 4096
_READY = b"ready\n"
_START_S = 20.0
_END_S = 20.0
_TICK_S = 0.1


class Sandbox:
    """Examines programs, several at once if several threads ask. Made by `open`, which first makes sure that it confines."""

    def __init__(self, confinement: Confinement, limits: Limits) -> None:
        self._confinement = confinement
        self.limits = limits
        self._users: SimpleQueue[int] = SimpleQueue()
        for number in range(USERS):
            self._users.put(FIRST_USER + number)

    @classmethod
    def open(cls, *, bwrap: Path | None = None, limits: Limits | None = None) -> Sandbox:
        """A sandbox that has just been seen to confine. `bwrap`: the program, else the one on the PATH.

        Raises SandboxUnavailable where there is none, it does not start, or something gets out; programs run in no other way.
        """
        found = bwrap or shutil.which("bwrap")
        if found is None:
            raise SandboxUnavailable(
                "no bubblewrap here: install the package bubblewrap, 0.8 or later, or evaluate no code"
            )
        confinement = Confinement.of_this_python(Path(found))
        sandbox = cls(confinement, limits or Limits())
        visible = [inside for _, inside in confinement.binds]
        require_confined(sandbox.examine, memory_bytes=sandbox.limits.memory_bytes, visible=visible)
        return sandbox

    def examine(
        self, program: str, examination: Mapping[str, Any], *, should_stop: Callable[[], bool] = lambda: False
    ) -> Examined:
        """Run the tests against the program, each in a sandbox of its own, of which nothing is left when this returns.

        `examination`: what `guests.checks` or `guests.inputs` take, and its `kind`. Raises StopRequested, and SandboxUnavailable
        where a sandbox does not come up.
        """
        nonce = secrets.token_hex(16)
        with ExitStack() as stack:
            requests, to_program = _pipe(stack)
            from_program, replies = _pipe(stack)
            verdict, to_verdict = _pipe(stack)
            tests = {
                "nonce": nonce,
                "requests": to_program.fd,
                "replies": from_program.fd,
                "verdict": to_verdict.fd,
                "call_s": self.limits.call_s,
                # The tests tell of a time-out themselves; being cut off is for what does not come back at all.
                "wall_s": self.limits.wall_s * 0.8,
                "examination": examination,
            }
            served = {"program": program, "requests": requests.fd, "replies": replies.fd}
            # First, so that the tests do not wait for it to start: their clock runs.
            stack.enter_context(self._guest("program", served, (requests, replies)))
            stack.enter_context(self._guest("tests", tests, (to_program, from_program, to_verdict)))
            said = _read(verdict.fd, until=monotonic() + self.limits.wall_s, should_stop=should_stop)
        return examined(said, nonce)

    @contextmanager
    def _guest(self, kind: str, job: Mapping[str, Any], ends: Sequence[_End]) -> Iterator[None]:
        """A sandbox that does `job`, with these ends of pipes, which are closed here; nothing of it is left after the block."""
        with ExitStack() as stack:
            user = stack.enter_context(self._user())
            info, told = _pipe(stack)
            leave, go = _pipe(stack)
            words, said = _pipe(stack)
            stdin = _End(os.memfd_create("job"))
            stack.callback(stdin.close)
            os.pwrite(stdin.fd, _contents(kind, job, self.limits), 0)
            command = self._confinement.command(
                ["-c", _source("boot")],
                user=user,
                info=told.fd,
                block=leave.fd,
                temporary_bytes=self.limits.temporary_bytes,
            )
            inside = (told, leave, *ends)
            stack.enter_context(_started(command, stdin=stdin.fd, stderr=said.fd, inside=[end.fd for end in inside]))
            for end in (said, *inside):
                end.close()
            stack.enter_context(_first_process(info.fd, words.fd))
            os.write(go.fd, b"1")
            if not (last := _words(words.fd)).endswith(_READY):
                raise _does_not_start(last)
            yield

    @contextmanager
    def _user(self) -> Iterator[int | None]:
        """A user for one sandbox alone, where this process may become one."""
        if os.geteuid() != 0:
            yield None
            return
        user = self._users.get()
        try:
            yield user
        finally:
            self._users.put(user)


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _pipe(stack: ExitStack) -> tuple[_End, _End]:
    reading, writing = (_End(fd) for fd in os.pipe())
    for end in (reading, writing):
        stack.callback(end.close)
    return reading, writing


def _source(module: str) -> str:
    return resources.files(_GUESTS).joinpath(f"{module}.py").read_text("utf-8")


def _contents(kind: str, job: Mapping[str, Any], limits: Limits) -> bytes:
    modules = {f"{_GUESTS}.{module}": _source(module) for module in _MODULES[kind]}
    return json.dumps({"modules": modules, "limits": limits.rlimits(), "job": job}).encode()


@contextmanager
def _started(command: Sequence[str], *, stdin: int, stderr: int, inside: Sequence[int]) -> Iterator[None]:
    """Bubblewrap itself, killed and waited for at the end."""
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=inside,
            env={},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"bubblewrap cannot be started: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _first_process(info: int, words: int) -> Iterator[None]:
    """The sandbox's first process, which waits for leave to go on. Its end is that of all others, and has come when the block is left.

    Raises SandboxUnavailable where it did not start, or the kernel does not say that it is gone.
    """
    try:
        told = json.loads(_read(info, until=monotonic() + _START_S, should_stop=lambda: False))
        process = os.pidfd_open(told["child-pid"])
    except (ValueError, OSError) as error:
        raise _does_not_start(_words(words)) from error
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        gone = _ready(process, _END_S)
        os.close(process)
        if not gone:
            raise SandboxUnavailable("a sandbox survived SIGKILL; look at the machine")


def _words(pipe: int) -> bytes:
    """What is said on stderr until the first of our own code runs inside, or all of it where none does."""
    said = b""
    until = monotonic() + _START_S
    while not said.endswith(_READY) and len(said) < _WORDS_BYTES and _ready(pipe, until - monotonic()):
        chunk = os.read(pipe, _WORDS_BYTES)
        if not chunk:
            break
        said += chunk
    return said


def _does_not_start(words: bytes) -> SandboxUnavailable:
    last = words.decode(errors="replace").strip().rpartition("\n")[2]
    return SandboxUnavailable(f"bubblewrap does not start here: {last or 'it says nothing'}")


def _read(pipe: int, *, until: float, should_stop: Callable[[], bool]) -> bytes:
    """What arrives until the pipe ends, the time is over or it is too much. Raises StopRequested."""
    said = bytearray()
    while len(said) <= _VERDICT_BYTES and (left_s := until - monotonic()) > 0:
        if should_stop():
            raise StopRequested
        if _ready(pipe, min(_TICK_S, left_s)):
            chunk = os.read(pipe, _VERDICT_BYTES)
            if not chunk:
                break
            said += chunk
    return bytes(said)


def _ready(descriptor: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, within_s) * 1000))
