"""What an attempt's end means."""

from __future__ import annotations

import errno
import signal
from typing import Any

import pytest

from cpd_engine.events import Failed, Finished, Stopped
from worker.endings import Crashed, Ending, Hopeless, Interrupted, Succeeded, broken_off, retry_delay_s, verdict

FINISHED = Finished(duration_s=1.0)
STOPPED = Stopped(phase="train")
FAILED = Failed(code="diverged", message="the loss is NaN at step 7")


def judged(**facts: Any) -> Ending:
    usual = {"said": None, "asked": False, "silent_s": None, "kept": True, "last_words": ""}
    return verdict(**(usual | facts))


def code(ending: Ending) -> str:
    assert isinstance(ending, Crashed | Hopeless)
    return ending.failure.code


def test_success_takes_the_last_word_the_exit_code_and_what_the_job_is_for() -> None:
    assert judged(returncode=0, said=FINISHED) == Succeeded()
    assert isinstance(judged(returncode=0, said=None), Crashed)
    assert isinstance(judged(returncode=1, said=FINISHED), Crashed)
    assert isinstance(judged(returncode=0, said=FINISHED, kept=False), Crashed)


def test_a_run_that_finishes_while_it_is_asked_to_stop_has_finished() -> None:
    assert judged(returncode=0, said=FINISHED, asked=True) == Succeeded()


def test_a_stopped_engine_can_go_on() -> None:
    assert judged(returncode=10, said=STOPPED, asked=True) == Interrupted()
    assert judged(returncode=10, said=STOPPED) == Interrupted()


@pytest.mark.parametrize("returncode", [-signal.SIGKILL, -signal.SIGTERM, 1])
def test_an_engine_that_had_to_be_killed_was_interrupted_too(returncode: int) -> None:
    assert judged(returncode=returncode, asked=True) == Interrupted()


def test_a_failure_keeps_the_engines_code_and_message() -> None:
    ending = judged(returncode=20, said=FAILED)
    assert isinstance(ending, Hopeless)
    assert (ending.failure.code, ending.failure.message) == ("diverged", "the loss is NaN at step 7")


def test_a_crash_names_its_signal() -> None:
    ending = judged(returncode=-signal.SIGKILL)
    assert code(ending) == "engine_crashed"
    assert isinstance(ending, Crashed)
    assert "signal 9 (SIGKILL)" in ending.failure.message


def test_a_crash_quotes_the_last_line_and_not_a_page() -> None:
    ending = judged(returncode=1, last_words="Traceback\n" + "x" * 5000 + "\n")
    assert isinstance(ending, Crashed)
    assert code(ending) == "engine_crash_loop"
    assert len(ending.failure.message) < 500


def test_silence_is_a_stall_and_not_a_kill() -> None:
    assert code(judged(returncode=-signal.SIGKILL, silent_s=3600.0)) == "engine_stalled"


def test_a_full_disk_is_not_tried_again_and_other_faults_are() -> None:
    assert code(broken_off(OSError(errno.ENOSPC, "no space"))) == "insufficient_storage"
    assert isinstance(broken_off(OSError(errno.EIO, "i/o")), Crashed)
    assert isinstance(broken_off(RuntimeError()), Crashed)


def test_waits_double_up_to_the_longest() -> None:
    waits = [retry_delay_s(crashes, first_s=5.0, longest_s=30.0) for crashes in (0, 1, 2, 3, 10_000)]
    assert waits == [5.0, 10.0, 20.0, 30.0, 30.0]
