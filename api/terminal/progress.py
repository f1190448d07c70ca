"""Following a job on a screen: a live display on a terminal, plain lines at sensible intervals elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.quantities import count
from api.remarks import remark
from api.remote.answers import Event
from api.terminal.plain import may_draw
from api.terminal.standing import Standing, advance

PLAIN_INTERVAL_S = 10.0


class Screen(Protocol):
    """Where a followed job is shown."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, standing: Standing, line: str | None) -> None:
        """Where the job stands now and, if the event is worth keeping, a line about it."""


class PlainScreen:
    """Lines for logs and pipes: each remark, and how training goes at most every `interval_s`."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float], interval_s: float = PLAIN_INTERVAL_S):
        self._write = write
        self._clock = clock
        self._interval_s = interval_s
        self._written_at = clock()

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def show(self, standing: Standing, line: str | None) -> None:
        """Write the remark, or a progress line if one is due."""
        if line is not None:
            self._write(line)
        elif standing.steps and self._clock() - self._written_at >= self._interval_s:
            self._written_at = self._clock()
            self._write(
                f"{standing.title}  {count(standing.step)}/{count(standing.steps)}  {standing.details}".rstrip()
            )


class LiveScreen:
    """A bar with the numbers of the moment under it; remarks scroll above."""

    def __init__(self, console: Console) -> None:
        self._standing = Standing()
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, standing: Standing, line: str | None) -> None:
        """Remember the standing for the next frame; print the remark above the bar."""
        self._standing = standing
        if line is not None:
            self._live.console.print(line, markup=False, highlight=False)

    def _picture(self) -> Group:
        standing = self._standing
        row = Table.grid(padding=(0, 2))
        row.add_column(min_width=26)
        row.add_column(width=40)
        row.add_column()
        # No total yet: the bar pulses instead of standing at nought.
        bar = ProgressBar(total=standing.steps or None, completed=standing.step, pulse=not standing.steps)
        counted = f"{count(standing.step)}/{count(standing.steps)}" if standing.steps else ""
        row.add_row(Text(standing.title, style="bold"), bar, Text(counted))
        return Group(row, Text(f"  {standing.details}" if standing.details else "", style="cyan"))


def screen(console: Console, clock: Callable[[], float]) -> Screen:
    """The display that suits where `console` writes."""
    if may_draw(console):
        return LiveScreen(console)
    return PlainScreen(lambda line: console.print(line, markup=False, highlight=False), clock)


def show_events(events: Iterable[Event], shown_on: Screen) -> None:
    """Show events until there are none."""
    standing = Standing()
    with shown_on:
        for event in events:
            standing = advance(standing, event.kind, event.data)
            shown_on.show(standing, remark(event.kind, event.data))
