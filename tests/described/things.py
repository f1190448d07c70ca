"""What a service holds while it is held against its description: one thing in each standing, so that ids lead somewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from api.events.queries import Point
from cpd_engine.events import to_dict
from tests.integration.http.api import Api
from tests.integration.http.test_figures import EXPORTED
from tests.integration.http.test_flips import ROWS, reported
from tests.integration.http.test_results import evaluated, suite_scored
from tests.unit.web import figure_values as values

# Jobs to order about: one that is cancelled never answers another order with a success.
WAITING = 30


def things(api: Api) -> Mapping[str, Sequence[str]]:
    """Ids and names that lead somewhere, by the parameter that they are given for."""
    jobs = [finished(api), reported(api).job_id, api.submit(), paused(api), api.claim(api.submit()).job_id]
    compared = api.compare()
    api.end_members(compared)
    api.make_table(compared)
    return {
        "job_id": jobs,
        "waiting": [paused(api) for _ in range(WAITING)],
        "dataset_id": [api.upload(), api.upload(name="more.jsonl")],
        "comparison_id": [compared, api.compare()],
        "name": ["model", "report", "train", "profile", "quality", "tradeoff"],
        "path": ["manifest.json", "samples.jsonl", "suites/dolly.jsonl", "adapter/a.json"],
    }


def finished(api: Api) -> str:
    """A job that told all there is to tell, and whose students are in the store."""
    hold = api.claim(api.submit())
    told = [(event.kind, to_dict(event)) for event in (values.profile(), values.report(suites=1))]
    scored = [evaluated("student", 1, 40.5), suite_scored("student", 0, 41.0)]
    api.say(hold, *told, *scored, ("exported", EXPORTED), points=[Point(name="student/loss", step=1, value=2.5)])
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    api.seal(hold, "report", {"manifest.json": b"{}", "samples.jsonl": lines}, role="phase")
    api.seal(hold, "model", {"manifest.json": b"{}", "adapter/a.json": b"{}"})
    api.succeed(hold)
    return hold.job_id


def paused(api: Api) -> str:
    """A job that waits for a person."""
    job_id = api.submit()
    api.owner.post(f"/v1/jobs/{job_id}/pause")
    return job_id
