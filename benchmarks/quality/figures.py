"""The study as pictures: the methods side by side, what a temperature is worth, what each change to `kld` does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.quality.analysis import Difference, Scored, Standing, difference, scored, standing
from benchmarks.quality.families import FAMILIES, Family
from benchmarks.quality.ledger import Ledger, Record
from benchmarks.quality.methods import ABLATIONS
from benchmarks.quality.study import ABLATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MEAN, _MARKED, _SEED, _BOUND = "#333333", "#1f5fa8", "#d9730d", "#9db8d9", "#777777"


def draw(ledger: Ledger, candidate: str, folder: Path) -> list[Path]:
    """methods.png, temperatures.png and ablations.png in `folder`, as far as there are runs for them."""
    records = [*ledger.records.values()]
    known = {name: of for name in FAMILIES if (of := scored(records, name))}
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, figure in (
        ("methods", _methods(known, candidate)),
        ("temperatures", _temperatures(records)),
        ("ablations", _ablations(known)),
    ):
        if figure is not None:
            made.append(folder / f"{name}.png")
            # No version and no date in the file.
            figure.savefig(made[-1], dpi=110, metadata={"Software": None})
    return made


def _methods(known: Mapping[str, Scored], candidate: str) -> Figure | None:
    """The share of the gap that each method closes, by family."""
    if not known:
        return None
    figure, all_axes = _panels(
        len(known), max(len(of) for of in known.values()), "share of the gap to the teacher closed"
    )
    for axes, (name, of) in zip(all_axes, known.items(), strict=True):
        ranked = sorted((standing(of[m], name) for m in of if m not in ABLATIONS), key=lambda one: -one.gap_closed)
        for place, one in enumerate(ranked):
            _mark(axes, place, one.closed, _interval(one), _MARKED if one.method == candidate else _MEAN)
        _labelled(axes, [one.method for one in ranked], name)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _interval(one: Standing) -> tuple[float, float]:
    half = one.closed_half_width or 0.0
    return one.gap_closed - half, one.gap_closed + half


def _ablations(known: Mapping[str, Scored]) -> Figure | None:
    """Each variant less `kld`."""
    found: dict[str, list[Difference]] = {}
    for name, of in known.items():
        if ABLATED in of and (variants := [method for method in of if method in ABLATIONS]):
            found[name] = [difference(of, variant, ABLATED, name) for variant in variants]
    if not found:
        return None
    about = f"one change to {ABLATED}: difference, more is better (95 % over test rows)"
    figure, all_axes = _panels(len(found), max(map(len, found.values())), about)
    for axes, (name, differences) in zip(all_axes, found.items(), strict=True):
        axes.axvline(0.0, color=_BOUND, linewidth=0.9, linestyle=(0, (4, 3)))
        for place, one in enumerate(differences):
            _mark(axes, place, one.by_seed, one.interval, _MEAN)
        metric = FAMILIES[name].metric
        unit = "nats per token" if metric == "ce" else "points of exact match"
        _labelled(axes, [one.method for one in differences], f"{name}\n{unit}")
    return figure


def _temperatures(records: Sequence[Record]) -> Figure | None:
    """Validation by temperature at the middle rate, mean over tuning seeds: constant temperatures."""
    found = [(family, curves) for family in FAMILIES.values() if (curves := _curves(family, records))]
    if not found:
        return None
    figure = Figure(figsize=(4.2 * len(found), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (family, curves) in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        for method, curve in curves.items():
            taus = sorted(curve)
            axes.plot(taus, [curve[tau] for tau in taus], marker="o", markersize=3, linewidth=1.2, label=method)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(f"temperature\n{family.name}", color=_INK)
        axes.set_ylabel(f"validation {family.metric}", color=_INK)
        axes.legend(fontsize=6, frameon=False)
    return figure


def _curves(family: Family, records: Iterable[Record]) -> dict[str, dict[float, float]]:
    own = [record for record in records if record.unit.family == family.name]
    values: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in own:
        unit = record.unit
        constant = unit.tau_1 == unit.tau_n > 0.0
        if (
            unit.role == "tune"
            and unit.setup == own[-1].unit.setup
            and constant
            and unit.learning_rate == family.base_rate
        ):
            values[unit.method][unit.tau_1].append(record.validation)
    return {
        method: {tau: sum(of) / len(of) for tau, of in by_tau.items()}
        for method, by_tau in values.items()
        if len(by_tau) > 1
    }


def _panels(count: int, lines: int, about: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(4.2 * count, 1.5 + 0.3 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{about}; small dots: single seeds", color=_INK, fontsize=10)
    all_axes: Sequence[Axes] = figure.subplots(1, count, squeeze=False)[0]
    for axes in all_axes:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(colors=_INK, left=False, labelsize=8)
    return figure, all_axes


def _mark(axes: Axes, place: int, by_seed: Sequence[float], interval: tuple[float, float], colour: str) -> None:
    axes.scatter(by_seed, [place] * len(by_seed), color=_SEED, s=12, zorder=2)
    axes.hlines(place, *interval, color=colour, linewidth=1.6, zorder=3)
    axes.scatter([sum(by_seed) / len(by_seed)], [place], color=colour, s=26, zorder=4)


def _labelled(axes: Axes, names: Sequence[str], below: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(below, color=_INK)
