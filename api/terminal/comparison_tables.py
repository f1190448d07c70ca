"""Comparisons as people read them: their jobs, and the table with its intervals, differences and costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.quantities import count, duration, moment, number, p_value
from api.remarks import METRICS
from api.remote.comparisons import Comparison, ComparisonLine, Run
from api.terminal.tables import NAMES, STATE_STYLES, whole
from cpd_engine.events import Compared, ComparedMember, ComparedSuite, MemberScore, SuiteMember

_HOW = (
    "Two 95 % intervals of the mean: ± Student's t over the seeds, and a bootstrap over the test rows. Differences are paired by row, "
    "each row averaged over the seeds; p by Wilcoxon signed rank, adjusted by Holm for all members."
)
_ENDS = {"teacher": "teacher", "untouched": "untouched"}
_DIGITS = {name: digits for name, _, digits in METRICS}
# Of a suite's metrics this one is told without a unit, as it is everywhere.
_UNITS = {"rouge_l": ""}


def comparisons(found: Iterable[ComparisonLine]) -> Table:
    """A list of comparisons."""
    table = Table(whole("comparison", 36), "name", "state", "members", "seeds", "jobs", "created")
    for one in found:
        jobs = ", ".join(f"{amount} {state}" for state, amount in one.jobs.items())
        members = ", ".join(one.members)
        table.add_row(one.id, one.name or "–", state(one), members, count(len(one.seeds)), jobs, moment(one.created_at))
    return table


def state(found: Comparison | ComparisonLine | Run) -> Text:
    """The state in its colour, with what has been asked of it."""
    asked = f" ({found.requested} requested)" if found.requested != "none" else ""
    return Text(f"{found.state}{asked}", style=STATE_STYLES.get(found.state, ""))


def facts(found: Comparison) -> Table:
    """One comparison, fact by fact."""
    budget = found.budget
    amount = (
        f"{budget.amount:,} {budget.unit}"
        if budget.amount is not None
        else f"{budget.unit} of {budget.epochs:g} passes"
    )
    table = Table.grid(padding=(0, 2))
    rows: list[tuple[str, str | Text]] = [
        ("comparison", found.id),
        ("name", found.name or "–"),
        ("state", state(found)),
        ("baseline", found.baseline),
        ("budget", amount),
        ("created", moment(found.created_at)),
    ]
    if found.table_job is not None:
        rows.append(("table's job", found.table_job))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), value)
    return table


def runs(found: Comparison) -> Table:
    """Every member's jobs as they stand. Fits a terminal of 80 columns."""
    table = Table(title=_title(found), title_justify="left")
    for heading in ("member", "seed", "state", "phase", "progress", "ETA", "exact match %"):
        right = heading in ("seed", "ETA", "exact match %")
        table.add_column(heading, justify="right" if right else "left")
    for member in found.members:
        for place, run in enumerate(member.runs):
            scored = None if run.scores is None else run.scores.get("exact_match")
            table.add_row(
                member.label if place == 0 else "",
                str(run.seed),
                _state_of(run),
                run.phase or "–",
                progress(run),
                duration(run.progress.eta_s) if run.state == "running" else "–",
                number(scored, 1),
            )
    return table


def progress(run: Run) -> str:
    """How far a job is in what it does now."""
    if run.state == "queued" and run.queue_position is not None:
        return f"number {run.queue_position} in the queue"
    at = run.progress
    if run.state == "running" and at.total_steps:
        return f"{count(at.step)}/{count(at.total_steps)} steps"
    if run.state == "running" and at.total:
        return f"{count(at.done)}/{count(at.total)}"
    return "–"


def _state_of(run: Run) -> Text:
    return state(run) if run.failure is None else Text(f"{run.state}: {run.failure.code}", style="red")


def _title(found: Comparison) -> str:
    jobs = [run for member in found.members for run in member.runs]
    over = sum(run.state in ("succeeded", "failed", "cancelled") for run in jobs)
    return f"{found.name or found.id}: {found.state}, {over} of {len(jobs)} jobs over"


def table(made: Compared) -> RenderableType:
    """A table a metric of the test rows and of each suite, what each member cost, what ended without a student, and what else there is
    to know. Fits a terminal of 80 columns.
    """
    scored = [member for member in made.members if member.scores]
    of_rows = f"on {count(made.rows)} test rows"
    parts: list[RenderableType] = [
        _metric(made.baseline, scored, name, f"{heading} {of_rows}", digits)
        for name, heading, digits in METRICS
        if scored
    ]
    for suite in made.suites:
        parts += [
            _metric(made.baseline, suite.members, name, _of_suite(suite, name), _DIGITS.get(name, 1))
            for name in suite.metrics
        ]
    parts += [Text(_HOW, style="dim"), _costs(made)]
    for member in made.members:
        if member.failures:
            whole_number = len(member.failures) + len(member.seeds)
            why = ", ".join(sorted(set(member.failures)))
            told = f"{member.label}: {len(member.failures)} of {whole_number} seeds gave no student ({why})"
            parts.append(Text(told, style="yellow"))
    if made.baseline not in [member.label for member in scored]:
        parts.append(Text(f"No differences: the baseline, {made.baseline}, has no student.", style="yellow"))
    return Group(*parts, *(Text(note, style="yellow") for note in made.notes))


def _of_suite(suite: ComparedSuite, metric: str) -> str:
    """`self_inst: ROUGE-L on 242 rows, mean of 5 sampled answers`."""
    sampled = f", mean of {count(len(suite.seeds))} sampled answers" if suite.seeds else ""
    return f"{suite.suite}: {NAMES.get(metric, metric)}{_UNITS.get(metric, ' %')} on {count(suite.rows)} rows{sampled}"


def _metric(
    baseline: str, scored: Sequence[ComparedMember | SuiteMember], metric: str, title: str, digits: int
) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("member")
    for name in ("mean ± seeds", "over rows", "− baseline", "p (Holm)", "gap closed"):
        table.add_column(name, justify="right", no_wrap=True)
    for member in scored:
        score, against = member.scores[metric], member.against.get(metric)
        low, high = score.row_interval
        table.add_row(
            member.label,
            _with_seeds(score, digits),
            f"{low:.{digits}f} … {high:.{digits}f}",
            "baseline" if member.label == baseline else "–" if against is None else f"{against.difference:+.{digits}f}",
            "" if against is None else p_value(against.p_holm),
            "–" if score.gap_closed is None else f"{score.gap_closed:.0%}",
        )
    for subject, label in _ENDS.items():
        values = {getattr(member, subject).get(metric) for member in scored}
        # Of several students or teachers none speaks for all.
        if len(values) == 1:
            table.add_row(label, number(values.pop(), digits), "", "", "", "", style="dim")
    return table


def _with_seeds(score: MemberScore, digits: int) -> str:
    if score.seed_interval is None:
        return f"{score.mean:.{digits}f}"
    return f"{score.mean:.{digits}f} ± {score.seed_interval[1] - score.mean:.{digits}f}"


def _costs(made: Compared) -> Table:
    table = Table(
        title=f"What a run took, on average; budget: {made.budget}",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("member")
    for name in ("seeds", "steps", "supervised tokens", "training s", "on a worker s"):
        table.add_column(name, justify="right")
    for member in made.members:
        cost = member.costs
        table.add_row(
            member.label,
            count(len(member.seeds)),
            number(cost.steps, 0),
            number(cost.supervised_tokens, 0),
            number(cost.train_s, 1),
            number(cost.worker_s, 1),
        )
    return table
