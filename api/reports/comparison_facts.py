"""Everything that a comparison's report tells of, read in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.comparisons import service as comparisons
from api.comparisons.schemas import ComparisonView
from api.jobs import service as jobs
from cpd_engine.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFacts:
    """`configs`: what a member's jobs do, resolved, by its label; `spec`: the comparison as it was sent."""

    view: ComparisonView
    configs: Mapping[str, RunConfig]
    spec: Mapping[str, Any]


def gather(session: Session, tenant_id: str, comparison_id: str) -> ComparisonFacts:
    """Raises NotFound."""
    row = comparisons.find(session, tenant_id, comparison_id)
    view = comparisons.get(session, tenant_id, comparison_id)
    first = {member.label: member.runs[0].job for member in view.members}
    shown = jobs.several(session, tenant_id, list(first.values()))
    configs = {
        label: RunConfig.model_validate_json(json.dumps(shown[job_id].resolved)) for label, job_id in first.items()
    }
    return ComparisonFacts(view=view, configs=configs, spec=row.spec)
