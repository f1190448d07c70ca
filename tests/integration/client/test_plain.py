"""Colours are for terminals: what `cpd` writes into a pipe, under NO_COLOR or with `--plain` is text."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from api.terminal.plain import may_draw
from api.terminal.progress import LiveScreen, PlainScreen, screen

CPD = Path(sys.executable).with_name("cpd")
ESCAPE = "\x1b"
# Select Graphic Rendition with a colour among its numbers.
COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


def environment(**settings: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CPD_", "NO_COLOR", "FORCE_"))}
    return own | {"TERM": "xterm-256color", "COLUMNS": "120"} | settings


def on_a_terminal(*words: str, **settings: str) -> str:
    """What a command writes to a terminal, on both of its streams."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([CPD, *words], env=environment(**settings), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:
            # How Linux says that the other end is closed.
            pass
    process.wait(30)
    return shown.decode()


def test_a_terminal_gets_colours_unless_it_or_somebody_does_not_want_them() -> None:
    assert COLOUR.search(on_a_terminal("submit", "absent.yaml"))
    assert not COLOUR.search(on_a_terminal("submit", "absent.yaml", NO_COLOR="1"))
    assert ESCAPE not in on_a_terminal("submit", "absent.yaml", TERM="dumb")
    assert ESCAPE not in on_a_terminal("submit", "absent.yaml", "--plain")


def test_what_is_said_before_a_command_begins_is_plain_as_well() -> None:
    assert ESCAPE in on_a_terminal("jobs", "--unknown")
    assert ESCAPE not in on_a_terminal("--plain", "jobs", "--unknown")


def test_a_pipe_gets_text() -> None:
    done = subprocess.run(
        [CPD, "submit", "absent.yaml"], env=environment(), capture_output=True, text=True, check=False
    )
    assert "absent.yaml" in done.stderr
    assert ESCAPE not in done.stderr


def test_a_followed_job_is_drawn_over_on_a_terminal_only_that_can() -> None:
    shown = {
        term: screen(Console(force_terminal=True, _environ={"TERM": term}), lambda: 0.0) for term in ("xterm", "dumb")
    }
    assert isinstance(shown["xterm"], LiveScreen)
    assert isinstance(shown["dumb"], PlainScreen)
    assert not may_draw(Console(force_terminal=False))
