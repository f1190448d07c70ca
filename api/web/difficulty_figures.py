"""A job's difficulty profile as figures: the curve with its cuts, the histogram of scores, and what every epoch is given."""

from __future__ import annotations

from bisect import bisect_left
from itertools import groupby, pairwise

import plotly.graph_objects as go

from api.web.figures import BLUE, GREEN, GREY, OCHRE, VERMILION, axis, figure, head, shaded
from cpd_engine.config import MEASURES
from cpd_engine.events import PlacedSample, ProfileReady

# Bands of the subsets from the first to be met, which is part of them all, to the last.
_DEEPEST, _PALEST = 0.42, 0.10
_SAMPLE = "%{customdata[0]}<br>difficulty %{customdata[1]:.4g}, place %{x:,}<br>%{customdata[2]}<extra></extra>"


def profile(ready: ProfileReady) -> go.Figure:
    """L̄(k) with each epoch's target and cut k_e, its subset shaded, and samples along it."""
    end = "hardest" if ready.descending else "easiest"
    measure = MEASURES.get(ready.difficulty, ready.difficulty)
    traces = [*_bands(ready), _curve(ready, end), _samples(ready), *_targets(ready), _cuts(ready)]
    return figure(
        traces,
        title="Difficulty profile",
        description=f"Mean difficulty of the k {end} of {ready.samples:,} samples ({measure}), where each epoch's target cuts it, "
        "and single samples along it.",
        height=460,
        xaxis=axis(f"k {end} samples", rangemode="tozero", tickformat="~s"),
        yaxis=axis(measure),
    )


def mean_at(ready: ProfileReady, k: int) -> float:
    """L̄(k) between the points that the thinned profile has."""
    at = bisect_left(ready.k, k)
    if at == len(ready.k) or ready.k[at] == k or at == 0:
        return ready.cumulative[min(at, len(ready.k) - 1)]
    before, after = ready.k[at - 1], ready.k[at]
    share = (k - before) / (after - before)
    return ready.cumulative[at - 1] + share * (ready.cumulative[at] - ready.cumulative[at - 1])


def _bands(ready: ProfileReady) -> list[go.Scatter]:
    """The area under the curve by where samples come in; an epoch's subset is its own band and all to the left of it."""
    epochs: dict[int, list[int]] = {}
    for number, cut in enumerate(ready.subset_sizes, start=1):
        epochs.setdefault(cut, []).append(number)
    made, before = [], 1
    for rank, cut in enumerate(sorted(epochs)):
        inner = [(k, mean) for k, mean in zip(ready.k, ready.cumulative, strict=True) if before < k < cut]
        points = [(before, mean_at(ready, before)), *inner, (cut, mean_at(ready, cut))]
        opacity = _DEEPEST - (_DEEPEST - _PALEST) * rank / max(1, len(epochs) - 1)
        made.append(
            go.Scatter(
                x=[k for k, _ in points],
                y=[mean for _, mean in points],
                name=f"subset of epoch {_ranges(epochs[cut])}",
                mode="lines",
                line={"width": 0},
                fill="tozeroy",
                fillcolor=shaded(BLUE, opacity),
                hoverinfo="skip",
                showlegend=False,
            )
        )
        before = cut
    return made


def _ranges(numbers: list[int]) -> str:
    """1–3, 7."""
    found = []
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        found.append(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}")
    return ", ".join(found)


def _curve(ready: ProfileReady, end: str) -> go.Scatter:
    return go.Scatter(
        x=ready.k,
        y=ready.cumulative,
        name=f"mean of the k {end}",
        mode="lines",
        line={"color": BLUE, "width": 2.5},
        hovertemplate="k = %{x:,}<br>L̄(k) = %{y:.4g}<extra></extra>",
    )


def _samples(ready: ProfileReady) -> go.Scatter:
    """Single samples at their places on the curve: those along it, and the easiest and hardest. Their own scores, which reach far
    above the curve, would flatten it."""
    placed = {sample.k: sample for sample in (*ready.along, *_ends(ready))}
    shown = [placed[k] for k in sorted(placed)]
    return go.Scatter(
        x=[sample.k for sample in shown],
        y=[mean_at(ready, sample.k) for sample in shown],
        customdata=[[head(sample.id), sample.score, head(sample.prompt)] for sample in shown],
        name="a sample",
        mode="markers",
        marker={"color": GREY, "size": 5, "symbol": "circle-open"},
        hovertemplate=_SAMPLE,
    )


def _ends(ready: ProfileReady) -> list[PlacedSample]:
    """The easiest and hardest with their places, which count from the end that the curriculum begins with."""
    first, last = (ready.hardest, ready.easiest) if ready.descending else (ready.easiest, ready.hardest)
    places = [(k, sample) for k, sample in enumerate(first, start=1)]
    places += [(ready.samples - k, sample) for k, sample in enumerate(last)]
    return [PlacedSample(k=k, id=one.id, score=one.score, prompt=one.prompt) for k, one in places]


def _targets(ready: ProfileReady) -> list[go.Scatter]:
    """Each epoch's target as a line up to its cut. One that lies off its cut was met by the floor or the last sample instead."""
    if len(ready.targets) != len(ready.subset_sizes):
        return []
    lines = list(zip(ready.targets, ready.subset_sizes, strict=True))
    return [
        go.Scatter(
            x=[x for _, cut in lines for x in (0, cut, None)],
            y=[y for target, _ in lines for y in (target, target, None)],
            name="target of an epoch",
            mode="lines",
            line={"color": OCHRE, "width": 1, "dash": "dash"},
            hoverinfo="skip",
        )
    ]


def _cuts(ready: ProfileReady) -> go.Scatter:
    epochs = range(len(ready.subset_sizes))
    targets = ready.targets if len(ready.targets) == len(ready.subset_sizes) else (None,) * len(ready.subset_sizes)
    told = [
        f"epoch {e + 1}: {ready.subset_sizes[e]:,} of {ready.samples:,} samples"
        + (f"<br>target {target:.4g}" if (target := targets[e]) is not None else "")
        + f"<br>t = {ready.mixing[e]:.3g}, τ = {ready.temperatures[e]:.3g}"
        for e in epochs
    ]
    return go.Scatter(
        x=ready.subset_sizes,
        y=[mean_at(ready, cut) for cut in ready.subset_sizes],
        customdata=told,
        # Numbers stand apart only where the cuts do.
        text=[str(e + 1) for e in epochs] if len(epochs) <= 12 else None,
        textposition="top left",
        name="cut k of an epoch",
        mode="markers+text",
        marker={"color": VERMILION, "size": 9, "symbol": "diamond"},
        hovertemplate="%{customdata}<extra></extra>",
    )


def histogram(ready: ProfileReady) -> go.Figure:
    """How many samples are how hard."""
    edges, counts = ready.histogram_edges, ready.histogram_counts
    measure = MEASURES.get(ready.difficulty, ready.difficulty)
    bars = go.Bar(
        x=[(left + right) / 2 for left, right in pairwise(edges)],
        y=counts,
        width=[right - left for left, right in pairwise(edges)],
        customdata=[[left, right] for left, right in pairwise(edges)],
        marker={"color": BLUE},
        hovertemplate="%{customdata[0]:.4g} to %{customdata[1]:.4g}<br>%{y:,} samples<extra></extra>",
        name="samples",
    )
    mean = {"type": "line", "x0": ready.mean, "x1": ready.mean, "yref": "paper", "y0": 0, "y1": 1}
    return figure(
        [bars],
        title="Scores",
        description=f"How the {ready.samples:,} samples are spread over their difficulty ({measure}); their mean is {ready.mean:.4g}.",
        height=280,
        showlegend=False,
        bargap=0.04,
        shapes=[mean | {"line": {"color": VERMILION, "width": 2, "dash": "dash"}}],
        annotations=[
            {
                "x": ready.mean,
                "yref": "paper",
                "y": 1,
                "text": f"mean {ready.mean:.4g}",
                "showarrow": False,
                "xanchor": "left",
            }
        ],
        xaxis=axis(measure),
        yaxis=axis("samples", tickformat="~s"),
    )


def schedule(ready: ProfileReady) -> go.Figure:
    """What every epoch is given: samples k_e, the student's own weight t_e in the mixed target, and the temperature τ_e."""
    epochs = list(range(1, len(ready.subset_sizes) + 1))
    sizes = go.Bar(
        x=epochs,
        y=ready.subset_sizes,
        name="samples k",
        marker={"color": BLUE},
        hovertemplate="epoch %{x}: %{y:,} samples<extra></extra>",
    )
    return figure(
        [
            sizes,
            _steps(epochs, ready.mixing, "mixing t", GREEN, "y2"),
            _steps(epochs, ready.temperatures, "temperature τ", VERMILION, "y3"),
        ],
        title="Schedule",
        description="Samples k, the student's weight t in the mixed target, and the temperature τ by epoch.",
        height=420,
        showlegend=False,
        xaxis=axis("epoch", anchor="y3", tickformat="d", dtick=1 if len(epochs) <= 12 else None),
        yaxis=axis("samples k", domain=[0.56, 1.0], tickformat="~s", rangemode="tozero"),
        yaxis2=axis("mixing t", domain=[0.29, 0.49], range=[-0.05, 1.05]),
        yaxis3=axis("temp. τ", domain=[0.0, 0.22], rangemode="tozero"),
    )


def _steps(epochs: list[int], values: tuple[float, ...], name: str, colour: str, yaxis: str) -> go.Scatter:
    return go.Scatter(
        x=epochs,
        y=values,
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2, "shape": "hvh"},
        yaxis=yaxis,
        hovertemplate=f"epoch %{{x}}: {name[-1]} = %{{y:.3g}}<extra></extra>",
    )
