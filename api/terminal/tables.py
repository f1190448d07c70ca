"""Tables for people: scores, lists, the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from api.quantities import count, duration, moment, number, p_value, size
from api.remarks import METRICS, SUBJECTS
from api.remote.answers import BadRow, Checkpoint, Dataset, Job, Usage
from api.remote.scores import Flips, Sample
from cpd_engine.events import Comparison, JudgeReport, Reported, SuiteReport, SuiteScore

# What metrics are called for people.
NAMES = {
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "ce": "held-out CE",
    "pass_at_1": "pass@1",
    "pass_at_1_plus": "pass@1, plus",
}
_COMPARED = "Distilled student − other, paired by sample; p by Wilcoxon signed rank"
STATE_STYLES = {"succeeded": "green", "failed": "red", "running": "cyan", "cancelled": "yellow", "paused": "yellow"}


def scores(report: Reported) -> RenderableType:
    """The final table: one row a model, then how sure the differences are and how much of the gap is closed."""
    table = Table(title=f"Scores on {count(report.rows)} test samples", title_justify="left")
    table.add_column("model")
    table.add_column("steps", justify="right")
    for _, heading, _ in METRICS:
        table.add_column(heading, justify="right")
    for subject, label in SUBJECTS.items():
        if subject in report.scores:
            values = report.scores[subject]
            cells = (number(values.get(metric), digits) for metric, _, digits in METRICS)
            table.add_row(label, count(report.steps.get(subject)), *cells, style="bold" if subject == "student" else "")
    parts: list[RenderableType] = [table]
    if report.comparisons:
        parts.append(
            _comparisons(_COMPARED, [(NAMES.get(pair.metric, pair.metric), pair) for pair in report.comparisons])
        )
    if report.gap_closed:
        shares = ", ".join(f"{NAMES.get(name, name)} {share:.0%}" for name, share in report.gap_closed.items())
        parts.append(Text(f"Share of the gap from untouched student to teacher that is closed: {shares}"))
    return Group(*parts, *_suites(report.suites), *_judged(report.judged))


def usage(found: Usage) -> RenderableType:
    """Each thing taken beside its limit."""
    table = Table("", Column("taken", justify="right"), Column("at most", justify="right"))
    hours = None if found.gpu_hours_max is None else f"{found.gpu_hours_max:g}"
    table.add_row("jobs waiting", count(found.queued_jobs), count(found.queued_jobs_max))
    table.add_row("jobs running", count(found.running_jobs), count(found.running_jobs_max))
    table.add_row(f"GPU hours in {found.gpu_hours_days} days", f"{found.gpu_hours:.1f}", hours or "–")
    table.add_row("data sets", size(found.stored_bytes), size(found.stored_bytes_max))
    return table


def _suites(suites: Iterable[SuiteReport]) -> Iterator[RenderableType]:
    """Every suite's scores, one row a metric, and the student's first metric against the other models. Fits 80 columns."""
    table = Table(title="Suites: mean ± standard error over the rows", title_justify="left")
    table.add_column("suite")
    table.add_column("rows", justify="right")
    found = tuple(suites)
    subjects = [name for name in SUBJECTS if any(name in suite.scores for suite in found)]
    for subject in subjects:
        table.add_column(SUBJECTS[subject].removesuffix(" student"), justify="right", no_wrap=True)
    compared: list[tuple[str, Comparison]] = []
    for suite in found:
        names = list(next(iter(suite.scores.values())))
        compared += [(suite.suite, pair) for pair in suite.comparisons if pair.metric == names[0]]
        for name in names:
            cells = (_with_error(suite.scores[subject][name]) for subject in subjects)
            table.add_row(f"{suite.suite} {NAMES.get(name, name)}", count(suite.rows), *cells)
    if found:
        yield table
    if compared:
        yield _comparisons("Suites: distilled student − other, seeds averaged, paired by row", compared)


def _judged(found: JudgeReport | None) -> Iterator[RenderableType]:
    """What the judge said of the student's answers against each other model's. Fits 80 columns."""
    if found is None:
        return
    table = Table("suite", "against", title=f"Judged by {found.model}, in both orders", title_justify="left")
    for heading in ("win rate %", "wins", "ties", "losses", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.results:
        counts = (one.wins, one.ties, one.losses, one.pairs - one.valid)
        table.add_row(
            one.suite, SUBJECTS[one.subject].removesuffix(" student"), number(one.win_rate, 1), *map(count, counts)
        )
    if found.results:
        yield table
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in found.results)
        costs = [one.cost for one in found.results if one.cost is not None]
        money = f", {sum(costs):.4g} by the operator's prices" if len(costs) == len(found.results) else ""
        yield Text(f"Asked of the judge: {count(tokens)} tokens{money}")
    if found.unavailable is not None:
        yield Text(f"Not {'all ' if found.results else ''}judged: {found.unavailable}", style="yellow")


def _with_error(score: SuiteScore) -> str:
    return number(score.mean, 1) if score.item_error is None else f"{score.mean:.1f} ± {score.item_error:.1f}"


def _comparisons(title: str, pairs: Iterable[tuple[str, Comparison]]) -> Table:
    """The distilled student against each other model, paired by sample, each under its label. Fits a terminal of 80 columns."""
    table = Table("other", "metric", title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("difference", "95 % interval", "p", "pairs differ"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, pair in pairs:
        digits = 3 if pair.metric == "ce" else 2
        low, high = pair.interval
        table.add_row(
            SUBJECTS.get(pair.subject, pair.subject).removesuffix(" student"),
            label,
            f"{pair.difference:+.{digits}f}",
            f"{low:+.{digits}f} … {high:+.{digits}f}",
            p_value(pair.p_value),
            f"{count(pair.non_zero)}/{count(pair.rows)}",
        )
    return table


def whole(heading: str, width: int) -> Column:
    """A column of ids, which people copy: never cut, however narrow the terminal."""
    return Column(heading, min_width=width, no_wrap=True)


def jobs(found: Iterable[Job]) -> Table:
    """A list of jobs."""
    table = Table(whole("job", 36), "name", "state", "phase", "progress", "created")
    for job in found:
        table.add_row(job.id, job.name or "–", state(job), job.phase or "–", _fraction(job), moment(job.created_at))
    return table


def state(job: Job) -> Text:
    """The state in its colour, with what has been asked of it."""
    asked = f" ({job.requested} requested)" if job.requested != "none" else ""
    return Text(f"{job.state}{asked}", style=STATE_STYLES.get(job.state, ""))


def _fraction(job: Job) -> str:
    progress = job.progress
    if progress.total_steps:
        return f"{count(progress.step)}/{count(progress.total_steps)} steps"
    if progress.total:
        return f"{count(progress.done)}/{count(progress.total)}"
    return f"number {job.queue_position} in the queue" if job.queue_position is not None else "–"


def job_facts(job: Job) -> Table:
    """One job, fact by fact."""
    table = Table.grid(padding=(0, 2))
    facts: list[tuple[str, str | Text]] = [
        ("job", job.id),
        ("kind", job.kind),
        ("name", job.name or "–"),
        ("state", state(job)),
        ("phase", job.phase or "–"),
        ("progress", _fraction(job)),
        ("attempt", count(job.attempt)),
        ("created", moment(job.created_at)),
        ("started", moment(job.started_at)),
        ("finished", moment(job.finished_at)),
    ]
    if job.forecast is not None:
        facts.append(
            ("forecast", f"{duration(job.forecast.duration_s)} in all, {size(job.forecast.memory_bytes)} of memory")
        )
    if job.failure is not None:
        facts.append(("failure", Text(f"{job.failure.message} ({job.failure.code})", style="red")))
    for name, value in facts:
        table.add_row(Text(name, style="dim"), value if isinstance(value, Text) else Text(value))
    return table


def checkpoints(found: Iterable[Checkpoint]) -> Table:
    """What can be downloaded of a job."""
    table = Table("checkpoint", "role", "step", "size", "formats")
    for checkpoint in found:
        formats = ", ".join(checkpoint.formats) or "–"
        table.add_row(checkpoint.name, checkpoint.role, count(checkpoint.step), size(checkpoint.size_bytes), formats)
    return table


def datasets(found: Iterable[Dataset]) -> Table:
    """A list of data sets."""
    table = Table(whole("data set", 35), "name", "format", "rows", "bad rows", "size", "created")
    for dataset in found:
        rows, bad = count(dataset.rows), count(dataset.bad_rows)
        table.add_row(
            dataset.id, dataset.name, dataset.format, rows, bad, size(dataset.size_bytes), moment(dataset.created_at)
        )
    return table


def bad_rows(found: Iterable[BadRow]) -> Table:
    """Lines that cannot be used, and what would mend them."""
    table = Table("line", "column", "reason", "what to do")
    for row in found:
        table.add_row(count(row.line), count(row.column), Text(row.reason), Text(row.suggestion))
    return table


def samples(found: Iterable[Sample]) -> RenderableType:
    """Prompts with the answers of every model under them."""
    table = Table.grid(padding=(0, 2))
    for sample in found:
        table.add_row(Text("prompt", style="dim"), Text(sample.prompt.strip()))
        table.add_row(Text("reference", style="dim"), Text(str(sample.reference)))
        for subject, label in SUBJECTS.items():
            if subject in sample.answers:
                table.add_row(Text(label, style="dim"), Text(sample.answers[subject].text))
        table.add_row("", "")
    return table


def flips(found: Flips) -> RenderableType:
    """The rows that got worse, each with both answers, under how many went which way."""
    counts, other = found.counts, SUBJECTS.get(found.against, found.against)
    head = (
        f"Distilled student against {other} in {NAMES.get(found.metric, found.metric)}: of {count(counts.rows)} rows "
        f"{count(counts.worse)} worse, {count(counts.better)} better, {count(counts.equal)} the same"
    )
    if counts.right_to_wrong is not None:
        head += f"; right → wrong {count(counts.right_to_wrong)}, wrong → right {count(counts.wrong_to_right)}"
    table = Table.grid(padding=(0, 2))
    for row in found.data:
        table.add_row(Text(f"row {row.row}", style="dim"), Text(f"{row.before:.3g} → {row.after:.3g}", style="red"))
        table.add_row(Text("prompt", style="dim"), Text(row.prompt.strip()))
        table.add_row(Text("reference", style="dim"), Text(str(row.reference)))
        for subject in (found.against, "student"):
            if subject in row.answers:
                table.add_row(Text(SUBJECTS.get(subject, subject), style="dim"), Text(row.answers[subject].text))
        table.add_row("", "")
    return Group(Text(head), Text(""), table)
