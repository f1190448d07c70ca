"""What the caller's tenant has taken of what it may take."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Reader
from api.deps import Known
from api.jobs import quotas
from api.jobs.schemas import Usage
from api.problems import declared

router = APIRouter(tags=["jobs"])


@router.get("/v1/usage", responses=declared())
def get_usage(who: Reader, known: Known) -> Usage:
    """Waiting and running jobs, GPU hours and bytes of data sets, each beside its limit."""
    with known.reading() as session:
        return quotas.usage(session, who.tenant_id, known.settings)
