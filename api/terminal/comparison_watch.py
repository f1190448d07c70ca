"""Following a comparison on a screen: a live table of its jobs on a terminal, a line for each change of state or phase elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from api.remote.comparisons import Comparison, Run
from api.terminal import comparison_tables
from api.terminal.plain import may_draw

PLAIN_INTERVAL_S = 30.0
# Where a job stands, as far as it is worth a line in a log.
_Standing = dict[tuple[str, int], tuple[str, str | None]]
Show = Callable[[Comparison], None]


def standing(found: Comparison) -> _Standing:
    """State and phase by member and seed, and the table's own state."""
    table = {("the table", 0): (str(found.state), None)} if found.table_job is not None else {}
    return {
        (member.label, run.seed): (str(run.state), run.phase) for member in found.members for run in member.runs
    } | table


def differing(views: Iterable[Comparison]) -> Iterator[Comparison]:
    """Those that stand differently than the one before, and the last."""
    before: tuple[str, _Standing] | None = None
    kept: Comparison | None = None
    for found in views:
        kept = found
        if (now := (str(found.state), standing(found))) != before:
            before, kept = now, None
            yield found
    if kept is not None:
        yield kept


def lines(before: Comparison | None, now: Comparison) -> list[str]:
    """What has changed, a line a job."""
    known = {} if before is None else standing(before)
    changed = [(where, what) for where, what in standing(now).items() if known.get(where) != what]
    return [
        f"{label}{'' if label == 'the table' else f', seed {seed}'}: {state}{f' ({phase})' if phase else ''}"
        for (label, seed), (state, phase) in changed
    ]


def show_comparison(views: Iterable[Comparison], console: Console, clock: Callable[[], float]) -> Comparison | None:
    """Show each as suits where `console` writes; the last one."""
    last = None
    with _screen(console, clock) as show:
        for last in views:
            show(last)
    return last


class PlainScreen:
    """Lines for logs and pipes: each change, and how training goes at most every `interval_s`."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float], interval_s: float = PLAIN_INTERVAL_S):
        self._write, self._clock, self._interval_s = write, clock, interval_s
        self._before: Comparison | None = None
        self._written_at = clock()

    def __call__(self, found: Comparison) -> None:
        """Write what has changed, or progress lines if they are due."""
        for line in (told := lines(self._before, found)):
            self._write(line)
        self._before = found
        if told:
            return
        if self._clock() - self._written_at >= self._interval_s:
            self._written_at = self._clock()
            for member in found.members:
                for run in filter(_trains, member.runs):
                    self._write(f"{member.label}, seed {run.seed}: {comparison_tables.progress(run)}")


def _trains(run: Run) -> bool:
    return run.state == "running" and bool(run.progress.total_steps or run.progress.total)


@contextmanager
def _screen(console: Console, clock: Callable[[], float]) -> Iterator[Show]:
    if not may_draw(console):
        yield PlainScreen(lambda line: console.print(line, markup=False, highlight=False), clock)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda found: live.update(comparison_tables.runs(found), refresh=True)
