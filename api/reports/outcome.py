"""Whether a job's distillation helped, as its numbers show it and no further. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from api.quantities import count
from api.reports.blocks import Block, Finding, Paragraph, Section, Table, Tile, Words
from api.reports.job_facts import JobFacts
from api.reports.words import (
    FEW_ROWS,
    LOWER_IS_BETTER,
    MODELS,
    OTHERS,
    WORDS,
    chance,
    heading,
    metric,
    percent,
    signed,
    signed_span,
    span,
    value,
    verdict,
)
from cpd_engine.events import Comparison, JudgeReport, Reported, SuiteReport, SuiteScore

_Z = 1.96
_TITLES = {
    ("untouched", "good"): "Training helped.",
    ("untouched", "bad"): "Training made the student worse.",
    ("untouched", "unclear"): "No difference from the untouched student is shown.",
    ("teacher", "good"): "The student beats its teacher.",
    ("teacher", "bad"): "The student is behind its teacher.",
    ("teacher", "unclear"): "No difference from the teacher is shown.",
    ("sft", "good"): "The teacher was worth asking.",
    ("sft", "bad"): "Plain fine-tuning on the data did better.",
    ("sft", "unclear"): "No gain over plain fine-tuning is shown.",
    ("kld", "good"): "The method did better than plain distillation.",
    ("kld", "bad"): "Plain distillation did better.",
    ("kld", "unclear"): "No gain over plain distillation is shown.",
}
_MEANS = {
    "sft": "the same student trained as many steps on the data's answers, without the teacher",
    "kld": "the same student trained as many steps on all samples against the teacher's probabilities",
}
_ORDER = ("untouched", "teacher", "sft", "kld")


def findings(facts: JobFacts) -> list[Block]:
    """What the score that the run is judged by shows against each other model, and what could not be asked."""
    report = facts.report
    if report is None:
        return []
    found: list[Block] = [_finding(pair) for pair in _pairs(report, facts.primary)]
    if "sft" not in report.scores:
        found.append(
            Finding(
                tone="unclear",
                title="Whether the teacher was needed is not known.",
                words="The job trained no twin without it. With evaluation.baselines: [sft] the next one says whether plain fine-tuning "
                "on the same rows for as many steps does as well.",
            )
        )
    if report.rows < FEW_ROWS:
        told = f"{count(report.rows)} test rows decide little: what looks like no difference may be one, and the other way round."
        found.append(Finding(tone="unclear", title="Few test rows.", words=told))
    return found


def _pairs(report: Reported, primary: str) -> Iterator[Comparison]:
    for subject in _ORDER:
        yield from (one for one in report.comparisons if one.subject == subject and one.metric == primary)


def _finding(found: Comparison) -> Finding:
    judged = verdict(found)
    about = f" ({_MEANS[found.subject]})" if found.subject in _MEANS else ""
    told = f"Against {OTHERS[found.subject]}{about}: {judged.evidence}."
    return Finding(tone=judged.outcome, title=_TITLES[found.subject, judged.outcome], words=told)


def tiles(facts: JobFacts) -> list[Tile]:
    """The score and the part of the teacher's lead that is won, by what the run is judged by."""
    report, name = facts.report, facts.primary
    if report is None:
        return []
    ends = [
        f"{MODELS[subject].lower()} {value(report.scores[subject].get(name), name)}"
        for subject in ("teacher", "untouched")
        if subject in report.scores
    ]
    mine = report.intervals.get("student", {}).get(name)
    within = f"95 % interval {span(mine, name)}; " if mine else ""
    return [
        Tile(
            label=f"Distilled student, {heading(name)}",
            value=value(report.scores["student"].get(name), name),
            note=f"{within}{', '.join(ends)}; {count(report.rows)} rows",
        ),
        Tile(
            label="Part of the teacher's lead that is won", value=_share(report, name), note=_share_note(report, name)
        ),
    ]


def _share(report: Reported, name: str) -> str:
    found = report.gap_closed.get(name)
    return "–" if found is None or _ends_overlap(report, name) else percent(found)


def _share_note(report: Reported, name: str) -> str:
    if name not in report.gap_closed:
        return f"the teacher does not lead the untouched student in {metric(name)}: there is nothing to win"
    if _ends_overlap(report, name):
        return f"teacher and untouched student are too close in {metric(name)} for a share to mean anything"
    return f"of the way from the untouched student to the teacher in {metric(name)}"


def _ends_overlap(report: Reported, name: str) -> bool:
    """Whether the intervals of teacher and untouched student meet: a share of a lead that may be none says nothing."""
    ends = [report.intervals.get(subject, {}).get(name) for subject in ("teacher", "untouched")]
    teacher, untouched = ends
    if teacher is None or untouched is None:
        return False
    return teacher[0] <= untouched[1] and untouched[0] <= teacher[1]


def section(facts: JobFacts, pictures: Sequence[Block]) -> Section:
    """The tables behind the findings: scores, differences, suites and verdicts of a judge."""
    report = facts.report
    if report is None:
        words = "The job ended before its models were scored."
        return Section(title="Did it help?", anchor="outcome", blocks=[Paragraph(words=words)])
    blocks: list[Block] = [
        Paragraph(words=f"Every model answered the same {count(report.rows)} test rows, which none was trained on."),
        _scores(report),
        *pictures,
        Paragraph(
            words="Row by row, the distilled student's score less the other's. The verdict follows interval and test together."
        ),
        _differences(report.comparisons),
        Paragraph(quiet=True, words=_HOW),
        *_suites(report.suites),
        *_judged(report.judged),
    ]
    return Section(title="Did it help?", anchor="outcome", blocks=blocks)


_HOW = (
    "Intervals: 95 %, by bootstrap over the test rows. p: two-sided Wilcoxon signed-rank test of the paired rows, not adjusted for the "
    "number of comparisons; of twenty comparisons without a difference about one falls below .05. One seed was run: another may move "
    "the scores as well, which only a comparison over seeds tells."
)


def _scores(report: Reported) -> Table:
    subjects = [subject for subject in MODELS if subject in report.scores]
    metrics = list(report.scores["student"])
    rows: list[list[Words]] = []
    for subject in subjects:
        steps = report.steps.get(subject)
        cells: list[Words] = [MODELS[subject], "–" if steps is None else count(steps)]
        for name in metrics:
            interval = report.intervals.get(subject, {}).get(name)
            within = f" ({span(interval, name)})" if interval else ""
            cells.append(f"{value(report.scores[subject].get(name), name)}{within}")
        rows.append(cells)
    head = ["Model", "Steps", *(f"{heading(name)}{' ↓' if name in LOWER_IS_BETTER else ''}" for name in metrics)]
    return Table(head=head, rows=rows, strong=frozenset({subjects.index("student")}))


def _differences(comparisons: Sequence[Comparison]) -> Table:
    rows: list[list[Words]] = [
        [
            f"{metric(found.metric)}, against {OTHERS[found.subject]}",
            WORDS[verdict(found).outcome],
            signed(found.difference, found.metric),
            signed_span(found.interval, found.metric),
            chance(found.p_value),
            f"{count(found.non_zero)} of {count(found.rows)}",
        ]
        for found in sorted(comparisons, key=lambda one: _ORDER.index(one.subject))
    ]
    head = ["Score and other model", "The student is", "Difference", "95 % interval", "p", "Rows that differ"]
    return Table(head=head, rows=rows, numbers=2)


def _suites(suites: Sequence[SuiteReport]) -> list[Block]:
    found: list[Block] = []
    for suite in suites:
        subjects = [subject for subject in MODELS if subject in suite.scores]
        metrics = list(next(iter(suite.scores.values()))) if suite.scores else []
        asked = f"under {count(len(suite.seeds))} seeds" if suite.seeds else "greedily"
        rows: list[list[Words]] = [
            [MODELS[subject], *(_with_error(suite.scores[subject].get(name), name) for name in metrics)]
            for subject in subjects
        ]
        strong = frozenset({subjects.index("student")}) if "student" in subjects else frozenset()
        told = f"Suite {suite.suite}: {count(suite.rows)} rows, answered {asked}."
        found += [
            Paragraph(words=told),
            Table(head=["Model", *map(heading, metrics)], rows=rows, strong=strong),
            _differences(suite.comparisons),
        ]
    return found


def _with_error(score: SuiteScore | None, name: str) -> str:
    if score is None:
        return "–"
    if score.item_error is None:
        return value(score.mean, name)
    half = _Z * score.item_error
    return f"{value(score.mean, name)} ({span((score.mean - half, score.mean + half), name)})"


def _judged(found: JudgeReport | None) -> list[Block]:
    if found is None:
        return []
    rows: list[list[Words]] = [
        [
            f"{one.suite}, against {OTHERS[one.subject]}",
            "–" if one.win_rate is None else f"{one.win_rate:.1f} %",
            *map(count, (one.wins, one.ties, one.losses, one.pairs - one.valid)),
        ]
        for one in found.results
    ]
    told = f"Judged by {found.model}, each pair of answers in both orders; where the orders disagree it is a tie."
    if found.unavailable is not None:
        told += f" Not {'everything' if rows else 'anything'} was judged: {found.unavailable}."
    head = ["Suite and other model", "Win rate", "Wins", "Ties", "Losses", "No verdict"]
    return [Paragraph(words=told), *([Table(head=head, rows=rows)] if rows else [])]
