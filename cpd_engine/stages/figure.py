"""The difficulty profile as a picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from cpd_engine.config import MEASURES
from cpd_engine.events import ProfileReady

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _CURVE, _CUT, _BAR = "#333333", "#1f5fa8", "#d9730d", "#9db8d9"
# Cuts nearer to each other than this share of the samples share a label.
_LABEL_GAP = 0.045


def draw_profile(ready: ProfileReady, path: Path) -> None:
    """Mean difficulty L̄(k) of the k easiest samples with each epoch's target and cut k_e, above a histogram of the scores.

    The paper's Figure 2. Equal values give equal bytes.
    """
    # Costs a second to import, and only the process that seals the profile draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    curve, histogram = figure.subplots(2, 1, height_ratios=(5, 2))
    for axes in (curve, histogram):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK)
    name = MEASURES.get(ready.difficulty, ready.difficulty)
    figure.suptitle(
        f"Difficulty profile: {ready.samples:,} samples, {len(ready.subset_sizes)} epochs", color=_INK, fontsize=13
    )
    _draw_curve(curve, ready, name)
    _draw_histogram(histogram, ready, name)
    # No version and no date in the file.
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _draw_curve(axes: Axes, ready: ProfileReady, name: str) -> None:
    heights, end = _heights(ready), "hardest" if ready.descending else "easiest"
    axes.fill_between(ready.k, ready.cumulative, color=_CURVE, alpha=0.07, linewidth=0)
    axes.plot(ready.k, ready.cumulative, color=_CURVE, linewidth=2, label=f"mean of the k {end}")
    bottom = min(0.0, *ready.cumulative)
    axes.vlines(ready.subset_sizes, bottom, heights, color=_CUT, alpha=0.55, linewidth=0.9)
    axes.scatter(ready.subset_sizes, heights, color=_CUT, s=20, zorder=3, label="cut $k_e$ of epoch e")
    if ready.targets:
        # Targets of the epochs at which the floor, and not the target, made the cut lie beside it.
        axes.hlines(
            ready.targets,
            0,
            ready.subset_sizes,
            color=_INK,
            alpha=0.35,
            linewidth=0.8,
            linestyle=(0, (4, 3)),
            label="target of epoch e",
        )
    _label_cuts(axes, ready, heights)
    axes.set_xlim(0, ready.samples * 1.03)
    axes.set_ylim(bottom, max(max(ready.cumulative), *heights) * 1.1 or 1.0)
    axes.set_xlabel(f"k {end} samples", color=_INK)
    axes.set_ylabel(f"mean of the {name}", color=_INK)
    axes.legend(loc="upper left", facecolor="white", edgecolor="none", framealpha=0.9, labelcolor=_INK)


def _heights(ready: ProfileReady) -> list[float]:
    """L̄ at each cut, from the thinned profile's nearest point at or above it."""
    return [
        next(mean for k, mean in zip(ready.k, ready.cumulative, strict=True) if k >= cut) for cut in ready.subset_sizes
    ]


def _label_cuts(axes: Axes, ready: ProfileReady, heights: list[float]) -> None:
    """Number the epochs above their cuts, those that stand together as a range."""
    groups: list[list[int]] = []
    for epoch, cut in enumerate(ready.subset_sizes):
        if groups and abs(cut - ready.subset_sizes[groups[-1][-1]]) < _LABEL_GAP * ready.samples:
            groups[-1].append(epoch)
        else:
            groups.append([epoch])
    for group in groups:
        text = str(group[0] + 1) if len(group) == 1 else f"{group[0] + 1}–{group[-1] + 1}"
        at = (ready.subset_sizes[group[-1]], heights[group[-1]])
        axes.annotate(text, at, (0, 7), textcoords="offset points", ha="center", color=_CUT, fontsize=9)


def _draw_histogram(axes: Axes, ready: ProfileReady, name: str) -> None:
    edges = ready.histogram_edges
    widths = [right - left for left, right in pairwise(edges)]
    axes.bar(
        edges[:-1], ready.histogram_counts, width=widths, align="edge", color=_BAR, edgecolor="white", linewidth=0.4
    )
    axes.axvline(ready.mean, color=_CURVE, linewidth=1.2)
    axes.annotate(
        f"mean {ready.mean:.3g}",
        (ready.mean, 0.96),
        (5, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        color=_CURVE,
        fontsize=9,
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(name, color=_INK)
    axes.set_ylabel("samples", color=_INK)
