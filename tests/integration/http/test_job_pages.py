"""The pages of jobs over HTTP: filters, what a job shows, what its buttons do, and nothing of what others wrote that runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from api.core.db import transaction
from api.events.queries import Point
from api.jobs import transitions
from api.jobs.moves import Failure
from api.keys.service import revoke_key
from cpd_engine.events import to_dict
from tests.backends import Backend
from tests.integration.http.api import SPEC, Api, serving
from tests.integration.http.browsing import browser
from tests.integration.http.test_results import REPORT
from tests.integration.worker.stand_in import FORECAST

CANARY = "\"'><script>document.title='run'</script><img src=x onerror=alert(1)><b onclick=alert(2)>{{ 7 * 7 }}"
EPOCH = {
    "trained": "student", "epoch": 1, "epochs": 2, "subset_size": 3, "samples": 9, "iterations": 4,
    "temperature": 1.0, "mixing": 0.5, "alpha": 0.3,
}  # fmt: skip


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def addresses(page: str) -> list[str]:
    return re.findall(r'href="(/jobs/job_[0-9a-f]+)"', page)


def test_jobs_are_filtered_by_state_preset_and_part_of_the_name(api: Api) -> None:
    ids = {
        "running": api.submit(name="Dolly 100%", preset="kld"),
        "queued": api.submit(name="dolly_two", preset="cpd"),
        "other": api.submit(name="maths", preset="kld"),
    }
    api.claim(ids["running"])
    expected = {
        "": {"running", "queued", "other"},
        "?state=&preset=&name=": {"running", "queued", "other"},
        "?state=running": {"running"},
        "?preset=kld": {"running", "other"},
        "?name=DOLLY": {"running", "queued"},
        "?name=%25": {"running"},
        "?name=y_t": {"queued"},
        "?state=queued&preset=kld&name=dolly": set(),
    }
    with browser(api, "reader") as visitor:
        for query, names in expected.items():
            shown = addresses(visitor.http.get(f"/{query}").text)
            assert set(shown) == {f"/jobs/{ids[name]}" for name in names}, query
        refused = visitor.http.get("/?state=sleeping")
        assert refused.status_code == 422
        assert "state: Input should be" in refused.text


def test_older_jobs_are_on_the_next_page_under_the_same_filters(api: Api) -> None:
    # Five may wait at a time.
    for _ in range(26):
        api.owner.post(f"/v1/jobs/{api.submit(name='one of many')}/cancel")
    with browser(api, "reader") as visitor:
        first = visitor.http.get("/?state=cancelled&name=one+of").text
        following = re.search(r'href="([^"]+)" rel="next"', first)
        assert following is not None
        second = visitor.http.get(following[1].replace("&amp;", "&")).text

    assert (len(addresses(first)), len(addresses(second))) == (25, 1)
    assert 'value="one of"' in second


def told(api: Api, **spec: Any) -> str:
    """A job that has told everything that its pages show, in hostile words wherever words are free."""
    hold = api.claim(api.submit(name=CANARY, metadata={"team": CANARY}, **spec))
    points = [
        Point(name=f"student/{name}", step=step, value=float(step), tokens=8)
        for name in ("loss", "ce", "kd", "mixing", "alpha", "temperature", "tokens_per_s", "learning_rate", "tokens")
        for step in range(1, 5)
    ]
    api.say(
        hold,
        ("epoch_started", EPOCH),
        ("warned", {"code": "canary", "message": CANARY}),
        ("reported", REPORT),
        points=points,
    )
    api.seal(hold, "model", {"manifest.json": b"{}", "model.safetensors": b"x"})
    with transaction(api.backend.make) as session:
        transitions.fail(session, hold, Failure(code="canary", message=CANARY))
    return hold.job_id


def test_nothing_that_others_wrote_becomes_an_element_or_an_attribute(api: Api) -> None:
    hostile, other = told(api), told(api, preset="kld")
    pages = [
        "/",
        f"/jobs/{hostile}",
        f"/compare?job={hostile}&job={other}",
        f"/jobs/{hostile}?before=3",
        "/?name=%22%3E%3Cscript%3Ex",
    ]
    with browser(api, "owner") as visitor:
        for address in pages:
            page = visitor.http.get(address)
            assert page.status_code == 200, page.text
            elements = Elements(page.text).found
            assert {tag for tag, _ in elements}.isdisjoint({"b"}), address
            assert [
                attributes.get("src") for tag, attributes in elements if tag == "script" and "src" not in attributes
            ] == []
            assert all(
                (attributes.get("src") or "").startswith("/static/")
                for tag, attributes in elements
                if tag in ("script", "img")
            )
            assert not [
                name for _, attributes in elements for name in attributes if name.startswith("on") or name == "style"
            ]
            assert "49" not in re.findall(r">\s*(49)\s*<", page.text)


def test_a_job_shows_its_scores_warnings_files_and_how_to_make_it_again(api: Api) -> None:
    job_id = told(api)
    with browser(api, "reader") as visitor:
        page = visitor.http.get(f"/jobs/{job_id}").text
        listed = visitor.http.get("/").text

    assert "ROUGE-L" in page
    assert page.count('class="notice warn"') == 1
    assert f"/jobs/{job_id}/checkpoints/model/download?format=merged" in page
    assert f"{api.url}/v1/jobs" in page
    # A reader's key may do nothing, and is offered nothing.
    assert "/cancel" not in page
    # REPORT closes half of the gap in ROUGE-L.
    assert "50 %" in listed
    assert "<polyline" in listed


def test_a_job_is_paused_resumed_and_cancelled_by_its_buttons(api: Api) -> None:
    job_id = api.submit()
    states = []
    with browser(api, "owner") as visitor:
        for what in ("pause", "resume", "cancel"):
            assert f'action="/jobs/{job_id}/{what}"' in visitor.http.get(f"/jobs/{job_id}").text
            answer = visitor.submit(f"/jobs/{job_id}/{what}")
            assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job_id}")
            states.append(api.owner.get(f"/v1/jobs/{job_id}").json()["state"])
        again = visitor.submit(f"/jobs/{job_id}/pause")

    assert states == ["paused", "queued", "cancelled"]
    assert (again.status_code, "job_already_finished" in again.text) == (409, True)


def test_a_file_comes_as_the_api_sends_it(api: Api) -> None:
    hold = api.claim(api.submit())
    api.seal(hold, "model", {"manifest.json": b"{}", "model.safetensors": b"weights"})
    address = f"/jobs/{hold.job_id}/checkpoints/model/files/model.safetensors"
    with browser(api, "reader") as visitor:
        ours = visitor.http.get(address, headers={"range": "bytes=2-"})
        theirs = api.reader.get(f"/v1{address}")

    assert (ours.status_code, ours.content, theirs.content) == (206, b"ights", b"weights")
    assert ours.headers["etag"] == theirs.headers["etag"]
    assert ours.headers["content-disposition"].startswith("attachment")


def test_an_event_stream_of_a_page_ends_with_its_key(api: Api) -> None:
    job_id = api.submit()
    api.claim(job_id)
    with browser(api, "reader") as visitor, visitor.http.stream("GET", f"/jobs/{job_id}/stream") as answer:
        lines = answer.iter_lines()
        seen = []
        for line in lines:
            seen.append(line)
            if line == "id: 2":
                break
        with transaction(api.backend.make) as session:
            assert revoke_key(session, api.keys["reader"].split("_")[1])
        rest = list(lines)

    assert "event: state_changed" in seen
    assert not [line for line in rest if line.startswith("data")]


def test_a_probe_tells_time_by_phase_and_money_and_leads_to_the_job(short: Backend) -> None:
    with serving(short.with_settings(gpu_hour_price=3.6, currency="EUR")) as api:
        job_id = api.owner.post("/v1/jobs/probe", json=SPEC | {"resources": {"gpus": 2}}).json()["id"]
        hold = api.claim(job_id)
        api.say(hold, ("forecasted", to_dict(FORECAST)))
        api.succeed(hold)
        with browser(api, "owner") as visitor:
            shown = visitor.http.get(f"/jobs/{job_id}").text
        with browser(api, "reader") as visitor:
            read = visitor.http.get(f"/jobs/{job_id}").text

    forecast = shown.split('id="forecast"')[1].split("</section>")[0]
    for told in ("0:50 to 1:15", "train", "0.12 EUR", "on 2", "1.0 GB"):
        assert told in " ".join(forecast.split()), told
    assert f'href="/submit?clone={job_id}">Make it a job' in forecast
    assert "Make it a job" not in read


def test_a_nul_in_a_page_s_address_is_refused_before_any_query(api: Api) -> None:
    with browser(api, "reader") as visitor:
        for address in (
            "/?name=%00",
            "/?preset=a%00",
            "/compare?job=%00&job=x",
            "/compare/losses?job=%00",
            "/comparisons/new?job=%00",
        ):
            answer = visitor.http.get(address)
            assert (answer.status_code, 'data-error="validation_error"' in answer.text) == (422, True), address
