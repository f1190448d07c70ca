"""The difficulty profile as a picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from cpd_engine.events import ProfileReady


def draw_profile(ready: ProfileReady, path: Path) -> None:
    """Mean difficulty of the k easiest samples, with each epoch's subset marked, above the histogram of the scores (paper, Figure 2)."""
    # Costs a second to import, and only the process that seals the profile draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    curve, histogram = figure.subplots(2, 1, height_ratios=(2, 1))
    curve.plot(ready.k, ready.cumulative, color="tab:blue")
    for size in ready.subset_sizes:
        curve.axvline(size, color="tab:orange", alpha=0.4, linewidth=0.8)
    for target in ready.targets:
        curve.axhline(target, color="tab:grey", alpha=0.3, linewidth=0.6)
    curve.set_xlabel("k easiest samples (orange: subset of each epoch)")
    curve.set_ylabel(f"mean {ready.difficulty}")
    curve.set_title(f"Difficulty profile of {ready.samples} samples")
    edges = ready.histogram_edges
    widths = [right - left for left, right in pairwise(edges)]
    histogram.bar(edges[:-1], ready.histogram_counts, width=widths, align="edge", color="tab:blue")
    histogram.set_xlabel(ready.difficulty)
    histogram.set_ylabel("samples")
    # No version and no date in the file, so that the same run gives the same bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None})
