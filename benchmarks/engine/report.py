"""Results as rows of a CSV with the machine and versions that they hold for, and as tables for people."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from benchmarks.engine.comparison import VARIANTS, Measured
from benchmarks.engine.job import JobCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """When, where and with what a run was made."""

    date: str
    commit: str
    machine: str
    cores: int
    python: str
    torch: str
    transformers: str
    trl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant in one setting, as it is kept. Megabytes are 10⁶ bytes; rates are per CPU second and thread.

    `difference`: relative to the result of the variant that computes the same plainly, None where there is none.
    """

    pair: str
    order: str
    variant: str
    seed: int
    threads: int
    steps: int
    samples: int
    tokens: int
    supervised: int
    cpu_s: float
    system_s: float
    wall_s: float
    added_mb: float
    useful_gflop: float
    gemm_gflop_per_s: float
    peak_share: float
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """CPU seconds of a whole job by phase, as they are kept."""

    cache: str
    curriculum: str
    samples: int
    visits: int
    prepare_cpu_s: float
    profile_cpu_s: float
    train_cpu_s: float
    evaluate_cpu_s: float
    export_cpu_s: float
    total_cpu_s: float

    @classmethod
    def of(cls, cost: JobCost) -> JobRow:
        """The row of one job."""
        phases = {f"{phase}_cpu_s": round(spent, 3) for phase, spent in cost.cpu_s.items()}
        return cls(
            cache=cost.cache,
            curriculum=cost.curriculum,
            samples=cost.samples,
            visits=cost.visits,
            total_cpu_s=round(cost.total_cpu_s, 3),
            **phases,
        )


def rows(measured: Sequence[Measured]) -> list[Row]:
    """One row a variant and setting: of several measurements the least CPU time counts, and the most memory."""
    repeats: dict[tuple[str, str, str], list[Measured]] = {}
    for one in measured:
        repeats.setdefault((one.pair, one.order, one.variant), []).append(one)
    return [_row(same, repeats) for same in repeats.values()]


def _row(same: list[Measured], every: dict[tuple[str, str, str], list[Measured]]) -> Row:
    best = min(same, key=lambda one: one.cpu_s)
    plain = every.get((best.pair, best.order, VARIANTS[best.variant].like or ""))
    return Row(
        pair=best.pair,
        order=best.order,
        variant=best.variant,
        seed=best.seed,
        threads=best.threads,
        steps=best.steps,
        samples=best.samples,
        tokens=best.tokens,
        supervised=best.supervised,
        cpu_s=round(best.cpu_s, 3),
        system_s=round(best.system_s, 3),
        wall_s=round(best.wall_s, 3),
        added_mb=round(max(one.added_bytes for one in same) / 1e6, 1),
        useful_gflop=round(best.useful_flops / 1e9, 2),
        gemm_gflop_per_s=round(best.gemm_flops_per_s / 1e9, 1),
        peak_share=round(best.peak_share, 4),
        difference=None if plain is None else float(f"{difference(plain[0].fingerprint, best.fingerprint):.2g}"),
    )


def difference(plain: Sequence[float], other: Sequence[float]) -> float:
    """‖plain − other‖ / ‖plain‖."""
    return math.dist(plain, other) / math.hypot(*plain)


def write(path: Path, found: Sequence[Row] | Sequence[JobRow], conditions: Conditions) -> None:
    """A CSV whose every row tells its conditions, so that rows of several runs may lie in one file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        names = [field.name for field in (*fields(found[0]), *fields(Conditions))]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), **asdict(conditions)} for row in found)


def table(found: Sequence[Row]) -> str:
    """Markdown: CPU seconds with their ratio to the peer and to the padded loop, memory, share of the GEMM peak, difference."""
    lines = [
        "| pair | batches | variant | CPU s | of it system | × TRL | × padded | added MB | TRL's / it | of GEMM peak | difference |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        peer, padded = _beside(found, row, ("trl",)), _beside(found, row, ("padded", "score_padded"))
        cells = [
            row.pair,
            row.order,
            row.variant,
            f"{row.cpu_s:.2f}",
            f"{row.system_s:.1f}",
            _ratio(peer, row, "cpu_s"),
            _ratio(padded, row, "cpu_s"),
            f"{row.added_mb:,.0f}",
            _ratio(peer, row, "added_mb"),
            f"{row.peak_share:.0%}",
            "–" if row.difference is None else f"{row.difference:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def job_table(off: JobCost, kept: JobCost) -> str:
    """Markdown: phases and the whole, without and with kept states, and what the ratio of training would be by arithmetic."""
    lines = [f"| CPU s, `{off.curriculum}` | cache off | kept | ratio |", "|---|---|---|---|"]
    spent = [(phase, off.cpu_s[phase], kept.cpu_s[phase]) for phase in off.cpu_s]
    spent.append(("total", off.total_cpu_s, kept.total_cpu_s))
    lines += [f"| {name} | {left:.1f} | {right:.1f} | {left / right:.2f} |" for name, left, right in spent]
    arithmetic = off.useful_flops(kept=False) / off.useful_flops(kept=True)
    visits = off.visits / off.samples
    lines.append(
        f"By arithmetic training needs {arithmetic:.2f} times fewer operations at {visits:.1f} visits a sample."
    )
    return "\n".join(lines)


def _beside(found: Sequence[Row], row: Row, variants: tuple[str, ...]) -> Row | None:
    """The row of a variant in the same setting that does the same kind of work."""
    scores = VARIANTS[row.variant].scores
    return next(
        (
            other
            for other in found
            if (other.pair, other.order) == (row.pair, row.order)
            and other.variant in variants
            and VARIANTS[other.variant].scores == scores
        ),
        None,
    )


def _ratio(other: Row | None, row: Row, column: Literal["cpu_s", "added_mb"]) -> str:
    return "–" if other is None else f"{getattr(other, column) / getattr(row, column):.1f}"
