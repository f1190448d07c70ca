"""Several runs in one figure: what is alike in all of them, whatever each one's loss is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from api.web.figures import PALETTE, SYMBOLS, axis, figure, head
from api.web.live_figures import TITLES, VALIDATION, Across, Run, place

CROSS_ENTROPY = "student/ce"
_DASHES = ("solid", "dash", "dot")


def losses(runs: Sequence[tuple[str, Run]], across: Across) -> go.Figure:
    """Cross-entropies of runs by their labels; runs of one label, as the seeds of a method are, share colour and entry of the legend."""
    return figure(
        [*_traces(runs)],
        title="Cross-entropy",
        description="The cross-entropy on the training rows of each step as lines, on the validation rows as marks. "
        "Methods differ in what else their losses are made of; this part is the same in all.",
        height=380,
        uirevision=across.value,
        xaxis=axis(TITLES[across]),
        yaxis=axis("cross-entropy, nats/token"),
    )


def _traces(runs: Sequence[tuple[str, Run]]) -> Iterator[go.Scatter]:
    labels = list(dict.fromkeys(label for label, _ in runs))
    told: set[str] = set()
    for label, run in runs:
        number = labels.index(label)
        colour, name = PALETTE[number % len(PALETTE)], head(label, 40)
        shared = {"name": name, "legendgroup": str(number), "hovertemplate": f"{name} %{{y:.4g}} nats<extra></extra>"}
        training = run.series.get(CROSS_ENTROPY, ())
        yield go.Scatter(
            x=[place(run, one.step, one.at) for one in training],
            y=[one.value for one in training],
            mode="lines",
            line={"color": colour, "width": 1.2, "dash": _DASHES[number // len(PALETTE) % len(_DASHES)]},
            opacity=0.75,
            showlegend=label not in told,
            **shared,
        )
        # Its series counts epochs; a mark stands where its epoch ended.
        marks = [(run.ends[one.step], one) for one in run.series.get(VALIDATION, ()) if one.step in run.ends]
        yield go.Scatter(
            x=[place(run, step, one.at) for step, one in marks],
            y=[one.value for _, one in marks],
            mode="markers",
            marker={"color": colour, "size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]},
            showlegend=False,
            **shared,
        )
        told.add(label)
