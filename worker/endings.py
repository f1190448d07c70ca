"""How an attempt ended, told from what the engine said and how its process went. Pure."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass

from api.jobs.moves import Failure
from cpd_engine.events import Failed, Finished, Stopped

STOPPED = 10
_MAX_WORDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The run finished and all it made is in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The engine was stopped, by a person's wish or the worker's; it can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hopeless:
    """A failure that no retry cures."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """A failure that another attempt may not meet."""

    failure: Failure


Ending = Succeeded | Interrupted | Hopeless | Crashed


def verdict(
    *,
    returncode: int,
    said: Finished | Stopped | Failed | None,
    asked: bool,
    silent_s: float | None,
    kept: bool,
    last_words: str,
) -> Ending:
    """Judge an engine that is gone.

    `said` is its last word, `asked` whether it had been told to stop (and was killed if it did not), `silent_s` for how long it
    had said nothing where it was killed for that, `kept` whether that which the job is for is
    stored: the student, or a probe's forecast.
    """
    match said:
        case Failed(code=code, message=message):
            return Hopeless(failure=Failure(code=code, message=message))
        case Finished() if returncode == 0 and kept:
            return Succeeded()
        case Stopped() if returncode == STOPPED:
            return Interrupted()
    # Killed after the grace, or told to stop before it was ready to listen: by us or by a whole control group's SIGTERM.
    if asked or returncode == -signal.SIGTERM:
        return Interrupted()
    if silent_s is not None:
        return Crashed(failure=Failure(code="engine_stalled", message=f"The engine said nothing for {silent_s:.0f} s."))
    if returncode < 0:
        return Crashed(failure=Failure(code="engine_crashed", message=_killed(-returncode)))
    words = last_words.strip().splitlines()[-1:]
    message = f"The engine ended with exit code {returncode} before its run was over"
    message += f"; its last words: {words[0][:_MAX_WORDS]}" if words else ", without a word."
    return Crashed(failure=Failure(code="engine_crash_loop", message=message))


def broken_off(error: BaseException) -> Ending:
    """Judge a fault on the worker's own side: its disk, its store, its recorder."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = (
            "There is no room left for the job's files; free space on the worker or in the store and submit again."
        )
        return Hopeless(failure=Failure(code="insufficient_storage", message=message))
    message = f"The worker could not go on with the job: {type(error).__name__}."
    return Crashed(failure=Failure(code="worker_error", message=message))


def retry_delay_s(crashes: int, *, first_s: float, longest_s: float) -> float:
    """Wait before the attempt after one more crash, `crashes` of them before it: doubles each time, up to `longest_s`."""
    return float(min(first_s * 2.0 ** min(crashes, 64), longest_s))


def _killed(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    cause = " This is how the system ends a process when memory runs out." if number == signal.SIGKILL else ""
    return f"The engine was killed by signal {number} ({name}).{cause}"
