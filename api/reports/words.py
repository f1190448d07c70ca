"""Names of models and scores, and what a comparison of two shows, in plain words that claim no more than its numbers do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from api.quantities import count, p_value
from api.remarks import SUBJECTS
from api.reports.blocks import Tone
from cpd_engine.events import Comparison

MODELS = {subject: name[0].upper() + name[1:] for subject, name in SUBJECTS.items()}
OTHERS = {subject: f"the {name}" for subject, name in SUBJECTS.items()}
METRICS = {
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "ce": "held-out cross-entropy",
    "accuracy": "accuracy",
    "pass_at_1": "pass@1",
    "pass_at_1_plus": "pass@1, plus tests",
}
UNITS = {"ce": "nats"}
LOWER_IS_BETTER = frozenset({"ce"})
# The level of the tests. An interval of 95 % that holds zero shows nothing either.
SIGNIFICANT = 0.05
FEW_ROWS = 30


def metric(name: str) -> str:
    """What a score is called in a sentence."""
    return METRICS.get(name, name)


def heading(name: str) -> str:
    """What it is called over a column, with its unit."""
    unit = "nats per token" if name in LOWER_IS_BETTER else "%"
    return f"{METRICS.get(name, name)}, {unit}"


def value(number: float | None, name: str) -> str:
    """A score: percent to a tenth, nats to a thousandth."""
    if number is None:
        return "–"
    return f"{number:.3f}" if name in LOWER_IS_BETTER else f"{number:.1f}"


def span(interval: tuple[float, float] | None, name: str) -> str:
    """An interval; nothing where it is not known."""
    return "" if interval is None else f"{value(interval[0], name)} to {value(interval[1], name)}"


def signed(number: float, name: str) -> str:
    """A difference with its sign, a true minus."""
    digits = 3 if name in LOWER_IS_BETTER else 1
    return f"{number:+.{digits}f}".replace("-", "−")


def signed_span(interval: tuple[float, float], name: str) -> str:
    """An interval of differences."""
    return f"{signed(interval[0], name)} to {signed(interval[1], name)}"


def percent(share: float) -> str:
    """`98 %`."""
    return f"{100 * share:.0f} %".replace("-", "−")


def time(seconds: float | None) -> str:
    """`37 min 16 s`, `2 h 05 min`, `8.4 s`; a dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def large(amount: int) -> str:
    """`494 M`, `1.54 bn`: to three digits."""
    for size, letter in ((10**9, " bn"), (10**6, " M"), (10**3, " k")):
        if amount >= size:
            return f"{amount / size:.3g}{letter}"
    return str(amount)


def chance(p: float | None) -> str:
    """`p < .001`, `p = .034`, or that no row differs."""
    if p is None:
        return "no row differs"
    told = p_value(p)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the distilled student against another model: `better`, `worse`, or that no difference is shown."""

    outcome: Tone
    evidence: str


def verdict(found: Comparison) -> Verdict:
    """Better or worse only where the interval leaves zero out and the test says so too; else nothing is shown, which is not sameness."""
    low, high = found.interval
    shown = found.p_value is not None and found.p_value <= SIGNIFICANT and (low > 0 or high < 0)
    up = found.difference < 0 if found.metric in LOWER_IS_BETTER else found.difference > 0
    outcome: Tone = ("good" if up else "bad") if shown else "unclear"
    unit = UNITS.get(found.metric, "points")
    evidence = (
        f"{metric(found.metric)} {signed(found.difference, found.metric)} {unit}, 95 % interval "
        f"{signed_span(found.interval, found.metric)}, {chance(found.p_value)}, {count(found.rows)} rows"
    )
    return Verdict(outcome, evidence)


WORDS: dict[Tone, str] = {"good": "better", "bad": "worse", "unclear": "no difference shown", "plain": ""}
