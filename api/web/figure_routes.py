"""The routes of figures: plotly's JSON, for clients that draw for themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Reader
from api.core.errors import ArtifactNotReady, NotFound, ValidationFailed
from api.deps import ComparisonId, JobId, Known
from api.problems import declared
from api.web import drawing
from api.web.drawing import ComparisonFigure, JobFigure
from api.web.figures import FigureView
from api.web.live_figures import Across

router = APIRouter(prefix="/v1", tags=["figures"])


@router.get("/jobs/{job_id}/figures/{name}", responses=declared(NotFound, ArtifactNotReady, ValidationFailed))
def get_job_figure(
    who: Reader,
    known: Known,
    job_id: JobId,
    name: JobFigure,
    across: Annotated[Across, Query(alias="x", description="What `loss`, `course` and `speed` go by.")] = Across.STEP,
) -> FigureView:
    """A figure of a job as plotly draws it: while it trains its `loss`, `course` (k/N, t, α, τ) and `speed`, its difficulty `profile`,
    `histogram` and `schedule`, its `quality` and the `changes`.
    """
    with known.reading() as session:
        return drawing.of_job(session, who.tenant_id, job_id, name, across)


@router.get(
    "/comparisons/{comparison_id}/figures/{name}", responses=declared(NotFound, ArtifactNotReady, ValidationFailed)
)
def get_comparison_figure(who: Reader, known: Known, comparison_id: ComparisonId, name: ComparisonFigure) -> FigureView:
    """A figure of a comparison: its `methods` by metric, the `tradeoff` of quality against size and cost, or the runs' `losses`."""
    with known.reading() as session:
        return drawing.of_comparison(session, who.tenant_id, comparison_id, name, known.settings)
