"""The study as tables: one a family, the differences to a baseline, and the candidate against its rivals over all families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.quality.analysis import Difference, Scored, Standing, difference, overall, scored, standing
from benchmarks.quality.families import FAMILIES
from benchmarks.quality.ledger import Ledger
from benchmarks.quality.methods import ABLATIONS
from benchmarks.quality.study import ABLATED
from cpd_engine.evaluation.significance import holm

# What a preset that is recommended has to beat.
RIVALS = ("kld", "srkl", "srkl_pocl")
_METRICS = ("exact_match", "rouge_l", "ce", "kl")


def tables(ledger: Ledger, candidate: str) -> str:
    """Everything as Markdown."""
    known: dict[str, Scored] = {name: scored(ledger.records.values(), name) for name in FAMILIES}
    parts = [_family(name, of, candidate) for name, of in known.items() if of]
    return "\n\n".join([*parts, _overall(confirming(known, candidate), candidate)]) + "\n"


def confirming(known: Mapping[str, Scored], candidate: str) -> dict[str, Scored]:
    """Without a family whose finding is put to the test by a fresh one: what suggested the candidate is no evidence for it."""
    repeated = {FAMILIES[name].settled_in for name, of in known.items() if candidate in of}
    return {name: of for name, of in known.items() if name not in repeated}


def _family(name: str, of: Scored, candidate: str) -> str:
    family = FAMILIES[name]
    systems = [method for method in of if method not in ABLATIONS]
    ranked = sorted((standing(of[method], name) for method in systems), key=lambda one: -one.gap_closed)
    lines = [f"### `{name}`: {family.about}", "", *_standings(ranked, of, candidate, name)]
    if variants := [method for method in of if method in ABLATIONS]:
        lines += ["", f"One change to `{ABLATED}` at its own settings:", ""]
        lines += _differences([difference(of, variant, ABLATED, name) for variant in variants], family.metric)
    return "\n".join(lines)


def _standings(ranked: Sequence[Standing], of: Scored, candidate: str, family: str) -> Iterator[str]:
    yield "| method | τ | rate | seeds | exact match | ROUGE-L | CE | KL to teacher | gap closed | tokens | CPU s |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for one in ranked:
        cells = [_shown(one, metric) for metric in _METRICS]
        tau = "–" if one.tau_1 == 0.0 else f"{one.tau_1:g}" + (f" → {one.tau_n:g}" if one.tau_n != one.tau_1 else "")
        name = f"**`{one.method}`**" if one.method == candidate else f"`{one.method}`"
        yield (
            f"| {name} | {tau} | {one.learning_rate:g} | {len(one.seeds)} | {' | '.join(cells)} | "
            f"{one.gap_closed:.1%} | {one.tokens:,.0f} | {one.cpu_s:.0f} |"
        )
    if candidate in of:
        found = [difference(of, candidate, one.method, family) for one in ranked if one.method != candidate]
        if found:
            yield ""
            yield f"`{candidate}` less each other method:"
            yield ""
            yield from _differences(found, FAMILIES[family].metric, other=True)


def _differences(found: Sequence[Difference], metric: str, *, other: bool = False) -> Iterator[str]:
    what = "less" if other else "change"
    yield f"| {what} | difference in {metric} | 95 % over rows | p over rows, Holm | p over seeds, Holm | by seed |"
    yield "|---|---|---|---|---|---|"
    rows, seeds = holm([one.by_rows for one in found]), holm([one.by_seeds for one in found])
    for one, by_rows, by_seeds in zip(found, rows, seeds, strict=True):
        low, high = one.interval
        by_seed = ", ".join(f"{value:+.3g}" for value in one.by_seed)
        yield (
            f"| {f'`{one.other}`' if other else one.method} | {one.mean:+.3g} | {low:+.3g} … {high:+.3g} | {_p(by_rows)} | "
            f"{_p(by_seeds)} | {by_seed} |"
        )


def _overall(known: Mapping[str, Scored], candidate: str) -> str:
    lines = [
        f"### Over all families: `{candidate}` less its rivals, in shares of the gap",
        "",
        "| less | mean | 95 % over seeds and rows | p, Holm | by family |",
        "|---|---|---|---|---|",
    ]
    found = []
    for rival in (one for one in RIVALS if one != candidate):
        try:
            found.append(overall(known, candidate, rival))
        except ValueError:
            continue
    for one, p in zip(found, holm([one.p for one in found]), strict=True):
        by_family = ", ".join(f"{name} {value:+.1%}" for name, value in one.by_family.items())
        low, high = one.interval
        lines.append(f"| `{one.other}` | {one.mean:+.1%} | {low:+.1%} … {high:+.1%} | {_p(p)} | {by_family} |")
    return "\n".join(lines if found else [*lines[:1], "", "Not enough runs yet."])


def _shown(one: Standing, metric: str) -> str:
    digits = 1 if metric in ("exact_match", "rouge_l") else 3
    half = one.half_width(metric)
    return f"{one.mean(metric):.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0")
