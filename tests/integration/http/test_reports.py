"""Reports over HTTP: of a job and of a comparison, as a page and as a text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from api.events.queries import Point
from api.jobs.lease import Hold
from cpd_engine.events import to_dict
from tests.integration.http.api import Api
from tests.integration.http.browsing import browser
from tests.integration.http.test_flips import ROWS
from tests.unit.web import figure_values as values


def evaluated(api: Api) -> Hold:
    """A job with a hostile name that has scored its models."""
    hold = api.claim(api.submit(name="<b>mine</b> | *yours*"))
    told: list[tuple[str, dict[str, Any]]] = [
        (event.kind, to_dict(event)) for event in (values.profile(prompt=values.HOSTILE), values.report())
    ]
    warned = ("warned", {"code": "shared_prompts", "message": "3 test rows ask what a training row asks"})
    phase = ("phase_finished", {"phase": "train", "duration_s": 90.0, "reused": False, "cpu_s": 170.0})
    api.say(hold, *told, warned, warned, phase, points=[Point(name="student/tokens", step=1, value=321.0)])
    files = {"manifest.json": b"{}", "samples.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode()}
    api.seal(hold, "report", files, role="phase")
    lineage = {"teacher": {"parameters": 10}, "student": {}, "data": {"licence": None}}
    api.seal(hold, "model", {"manifest.json": b"{}", "lineage.json": json.dumps(lineage).encode()})
    return hold


def test_a_job_s_report_comes_with_its_scores_as_a_page_that_may_load_nothing(api: Api) -> None:
    queued = api.submit()
    hold = evaluated(api)
    early = api.reader.get(f"/v1/jobs/{queued}/report")
    page = api.reader.get(f"/v1/jobs/{hold.job_id}/report")
    again = api.reader.get(f"/v1/jobs/{hold.job_id}/report", headers={"if-none-match": page.headers["etag"]})

    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["content-disposition"].startswith("inline; ")
    assert "&lt;b&gt;mine&lt;/b&gt;" in page.text
    assert "<b>" not in page.text
    assert page.text.count("<svg") >= 8
    assert "student beats its teacher" in page.text
    assert again.status_code == 304


def test_a_job_s_report_as_text_tells_the_same(api: Api) -> None:
    hold = evaluated(api)
    text = api.reader.get(f"/v1/jobs/{hold.job_id}/report", params={"format": "markdown"})

    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith(r"# \<b\>mine\</b\> \| \*yours\*")
    assert text.text.count("3 test rows ask what a training row asks") == 1
    assert "| exact match, against the untouched student | 2 | 1 | 2 | 1 | 2 |" in text.text
    assert "| Training | 1 min 30 s | 2 min 50 s |" in text.text
    assert "Row lost: right → wrong" in text.text
    assert "rows: not stated" not in text.text, "synthetic rows have no licence to state"


def test_a_job_that_ended_without_scores_has_a_report_all_the_same(api: Api) -> None:
    job_id = api.submit()
    api.owner.post(f"/v1/jobs/{job_id}/cancel")
    found = api.reader.get(f"/v1/jobs/{job_id}/report", params={"format": "markdown"})

    assert found.status_code == 200
    assert "The job is cancelled." in found.text


def test_whoever_has_logged_in_is_led_to_the_report_from_the_page_of_scores(api: Api) -> None:
    hold = evaluated(api)
    with browser(api, "reader") as logged_in, browser(api, "other") as foreign:
        quality = logged_in.http.get(f"/jobs/{hold.job_id}/quality").text
        page = logged_in.http.get(f"/jobs/{hold.job_id}/report")
        refused = foreign.http.get(f"/jobs/{hold.job_id}/report")

    assert f'href="/jobs/{hold.job_id}/report"' in quality
    assert "student beats its teacher" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert refused.status_code == 404


def test_another_form_and_another_s_job_are_refused(api: Api) -> None:
    hold = evaluated(api)
    form = api.reader.get(f"/v1/jobs/{hold.job_id}/report", params={"format": "pdf"})

    assert (form.status_code, form.json()["error"]["param"]) == (422, "format")
    assert api.other.get(f"/v1/jobs/{hold.job_id}/report").status_code == 404


def test_a_comparison_s_report_comes_with_its_table(api: Api) -> None:
    comparison_id = api.compare(name="<i>which</i>")
    early = api.reader.get(f"/v1/comparisons/{comparison_id}/report")
    api.end_members(comparison_id)
    hold = api.claim(api.comparison(comparison_id)["table_job"])
    table = values.table()
    members = tuple(member for member in table.members if member.label in ("kld", "cpd"))
    api.say(hold, ("compared", to_dict(replace(table, members=members))))
    api.succeed(hold)
    page = api.reader.get(f"/v1/comparisons/{comparison_id}/report")
    text = api.reader.get(f"/v1/comparisons/{comparison_id}/report", params={"format": "markdown"}).text

    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")
    assert "&lt;i&gt;which&lt;/i&gt;" in page.text
    assert page.text.count("<svg") == 3
    assert "**cpd did better than kld.** ROUGE-L +5.0 points, 95 % interval +0.5 to +9.5, p = .040" in text
    assert "- **kld**: Token by token" in text
    assert "| cpd | 2 | 100 | 10,000 | 20,000 | 1 min 00 s | 30 min 00 s |" in text


def test_a_comparison_that_was_cancelled_says_so(api: Api) -> None:
    comparison_id = api.compare()
    api.owner.post(f"/v1/comparisons/{comparison_id}/cancel")
    text = api.reader.get(f"/v1/comparisons/{comparison_id}/report", params={"format": "markdown"}).text

    assert "The comparison is cancelled and has no table." in text
    assert "**cpd, seed 0**: cancelled" in text
