"""The tables of scores in a model card. Pure: Markdown out of what was reported."""

from __future__ import annotations

from collections.abc import Sequence

from cpd_engine.events import Comparison, JudgedAgainst, JudgeReport, Reported, SuiteReport, SuiteScore

_ROWS = {
    "teacher": "Teacher",
    "untouched": "Untouched student",
    "sft": "CE-only student, same number of steps",
    "kld": "KLD student, same number of steps",
    "student": "**Distilled student (this model)**",
}
_METRICS = {"exact_match": "exact match, %", "rouge_l": "ROUGE-L", "ce": "held-out CE, nats per token"}
_SUITE_METRICS = {
    "exact_match": "exact match, %",
    "rouge_l": "ROUGE-L",
    "accuracy": "accuracy, %",
    "pass_at_1": "pass@1, %",
    "pass_at_1_plus": "pass@1 with the plus tests, %",
}
_OTHERS = {
    "teacher": "the teacher",
    "untouched": "the untouched student",
    "sft": "the CE-only student",
    "kld": "the KLD student",
}


_BRACKETS = " In brackets: 95 % bootstrap interval over the rows."


def scores(reported: Reported) -> str:
    """The section on the run's own test rows."""
    head = "| Model | " + " | ".join(_METRICS.values()) + " |\n|---|" + "---:|" * len(_METRICS)
    lines = [
        f"| {title} | " + " | ".join(_score(reported, subject, metric) for metric in _METRICS) + " |"
        for subject, title in _ROWS.items()
        if subject in reported.scores
    ]
    table = "\n".join([head, *lines])
    closed = [
        f"{100 * share:.0f} % in {_METRICS[metric].split(',')[0]}" for metric, share in reported.gap_closed.items()
    ]
    gap = (
        f"Part of the gap between untouched student and teacher that it closes: {', '.join(closed)}."
        if closed
        else (
            "The teacher is not better than the untouched student in any of these metrics, so there was no gap to close."
        )
    )
    compared = "\n".join(_comparison(c) for c in reported.comparisons if c.metric != "ce")
    return (
        f"## Scores\n\nOn {reported.rows:,} test rows that no model was trained on. Higher is better, but for CE."
        f"{_BRACKETS if reported.intervals else ''}\n\n{table}\n\n{gap}\n\n"
        "Paired by row: mean difference in points, 95 % bootstrap interval, two-sided Wilcoxon signed-rank p.\n\n"
        f"{compared}"
    )


def suites(found: Sequence[SuiteReport]) -> list[str]:
    """The section on suites, where there are any."""
    if not found:
        return []
    shown = [subject for subject in _ROWS if subject in found[0].scores]
    head = (
        "| Suite | Rows | Metric | "
        + " | ".join(_ROWS[subject] for subject in shown)
        + " |\n|---|---:|---|"
        + "---:|" * len(shown)
    )
    lines = [
        f"| {suite.suite} | {suite.rows:,} | {_SUITE_METRICS[name]} | "
        + " | ".join(_with_error(suite.scores[subject][name]) for subject in shown)
        + " |"
        for suite in found
        for name in suite.scores[shown[0]]
    ]
    compared = [
        f"- {suite.suite}: {_comparison(pair)[2:]}"
        for suite in found
        for pair in suite.comparisons
        if pair.metric == next(iter(suite.scores[shown[0]]))
    ]
    asked = ", ".join(f"{suite.suite} by {_asked(suite)}" for suite in found)
    table = "\n".join([head, *lines])
    return [
        (
            f"## Suites\n\nMean ± standard error over the rows; answers {asked}. Settings and every answer are in the run's report.\n\n"
            f"{table}\n\nPaired by row, seeds averaged:\n\n" + "\n".join(compared)
        )
    ]


def judged(found: JudgeReport | None) -> list[str]:
    """The section on a judge's verdicts, where any were asked for."""
    if found is None:
        return []
    parts = [f"## Judged by `{found.model}`"]
    if found.results:
        head = "| Suite | Against | Win rate, % | Wins | Ties | Losses | Without a verdict |\n|---|---|" + "---:|" * 5
        parts.append(
            "This model's answer against another's to the same question, asked in both orders; where the orders disagree it is a tie. "
            "Win rate: (wins + ties/2) / pairs with a verdict."
        )
        parts.append("\n".join([head, *map(_verdicts, found.results)]))
    if found.unavailable is not None:
        rest = "the rest was" if found.results else "the answers were"
        parts.append(f"The judge was not to be had, so {rest} not judged.")
    return ["\n\n".join(parts)]


def _verdicts(found: JudgedAgainst) -> str:
    rate = "–" if found.win_rate is None else f"{found.win_rate:.1f}"
    ties = f"{found.ties} ({found.disagreements} by disagreement)" if found.disagreements else str(found.ties)
    return (
        f"| {found.suite} | {_OTHERS[found.subject]} | {rate} | {found.wins} | {ties} | {found.losses} | "
        f"{found.pairs - found.valid} |"
    )


def _asked(suite: SuiteReport) -> str:
    return f"sampling under seeds {', '.join(map(str, suite.seeds))}" if suite.seeds else "greedy decoding"


def _with_error(score: SuiteScore) -> str:
    return f"{score.mean:.1f}" if score.item_error is None else f"{score.mean:.1f} ± {score.item_error:.1f}"


def _number(scores: dict[str, float], metric: str) -> str:
    return f"{scores[metric]:.3f}" if metric == "ce" else f"{scores[metric]:.1f}"


def _score(reported: Reported, subject: str, metric: str) -> str:
    found = reported.intervals.get(subject, {}).get(metric)
    mean = _number(reported.scores[subject], metric)
    if found is None:
        return mean
    digits = 3 if metric == "ce" else 1
    return f"{mean} [{found[0]:.{digits}f}, {found[1]:.{digits}f}]"


def _comparison(found: Comparison) -> str:
    low, high = found.interval
    p = "no row differs" if found.p_value is None else f"p = {found.p_value:.2g}"
    name = (_METRICS | _SUITE_METRICS)[found.metric].split(",")[0]
    return f"- {name} against {_OTHERS[found.subject]}: {found.difference:+.1f} [{low:+.1f}, {high:+.1f}], {p}"
