"""A job while it goes on, in a real browser: what the engine says appears without a reload, and nothing else gets in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from api.core.db import transaction
from api.events import queries
from api.events.queries import Line, Point
from api.jobs import transitions
from api.jobs.lease import Hold
from tests.browser.chromium import Chromium
from tests.deadline import eventually
from tests.integration.http.api import Api

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

CANARY = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
VALUES = {
    "loss": 2.0,
    "ce": 3.0,
    "kd": 1.0,
    "mixing": 0.5,
    "alpha": 0.3,
    "temperature": 1.5,
    "learning_rate": 1e-3,
    "tokens": 64.0,
}
SPEED = {"tokens_per_s": 900.0, "memory_bytes": 2.0**31}


def say(api: Api, hold: Hold, at: int, steps: Sequence[int], *more: tuple[str, dict[str, Any]]) -> None:
    """What the worker records of these steps, from line `at`."""
    lines = [Line(eseq=at, kind="progressed", data={"kind": "progressed"})]
    lines += [Line(eseq=at + i, kind=kind, data={"kind": kind} | data) for i, (kind, data) in enumerate(more, start=1)]
    points = [
        Point(name=f"student/{name}", step=step, value=value / step, tokens=64)
        for step in steps
        for name, value in (VALUES | SPEED).items()
    ]
    progress = {
        "phase_index": 2,
        "phases": 5,
        "trained": "student",
        "step": steps[-1],
        "total_steps": 40,
        "loss": 2.0 / steps[-1],
    }
    with transaction(api.backend.make) as session:
        queries.append_events(session, hold, lines, points=points, phase="train", progress=progress)


def epoch(number: int) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {
        "trained": "student",
        "epoch": number,
        "epochs": 4,
        "subset_size": 3 * number,
        "samples": 12,
    }
    return "epoch_started", told | {"iterations": 10, "temperature": 1.0, "mixing": 0.5, "alpha": 0.3}


def test_a_job_is_followed_live_and_steered(api: Api, window: Chromium) -> None:
    hold = api.claim(api.submit(name=f"live {CANARY}"))
    say(api, hold, 1, range(1, 11), epoch(1))
    window.open(f"{api.url}/jobs/{hold.job_id}")
    window.type("#key", api.keys["owner"], Keys.ENTER)
    title = f"live {CANARY} · CPD"

    drawn(window, 3)
    assert "10 of 40" in window.text("#standing")
    say(api, hold, 10, range(11, 21), epoch(2), ("warned", {"code": "canary", "message": CANARY}))
    eventually(lambda: "20 of 40" in window.text("#standing"), within_s=20, what="the steps that were taken since")
    eventually(lambda: CANARY in window.text("#warnings"), within_s=20, what="the first warning")
    eventually(lambda: newest_step(window) == 20, within_s=20, what="the loss of those steps")

    window.press("nav.switch a[href='?x=tokens']")
    drawn(window, 3)
    window.press("form[action$='/pause'] button")
    eventually(lambda: "pause asked for" in window.text("#standing"), within_s=20, what="the pause")
    window.press("form[action$='/cancel'] button")
    window.driver.switch_to.alert.accept()
    eventually(lambda: "cancel asked for" in window.text("#standing"), within_s=20, what="the cancellation")
    with transaction(api.backend.make) as session:
        transitions.stop(session, hold)
    eventually(lambda: window.text("#standing .state") == "cancelled", within_s=20, what="the end, without a reload")
    assert window.driver.title == title
    assert window.complaints() == []


def drawn(window: Chromium, figures: int) -> None:
    """Returns when so many figures are there, drawn by plotly."""
    eventually(
        lambda: len(window.all("[data-figure] > .plot-container")) == figures, within_s=30, what=f"{figures} figures"
    )


def newest_step(window: Chromium) -> int:
    """The last step that the figure of the loss shows."""
    script = "return Math.max(...document.querySelector('[data-figure]').data.flatMap(trace => [...(trace.x ?? [])]))"
    return int(window.driver.execute_script(script))


def test_pages_fit_their_window_in_both_schemes(api: Api, window: Chromium) -> None:
    name = "a-name-without-any-place-to-break-it-" * 3
    hold = api.claim(api.submit(name=name))
    say(api, hold, 1, range(1, 11), epoch(1))
    api.seal(hold, "model", {"manifest.json": b"{}", "a/rather/deep/folder/model-00001-of-00002.safetensors": b"w"})
    other = api.submit(name="other", preset="kld")
    window.open(f"{api.url}/login")
    window.type("#key", api.keys["owner"], Keys.ENTER)
    window.find("#list")
    pages = {
        "jobs": "/",
        "job": f"/jobs/{hold.job_id}",
        "compare": f"/compare?job={hold.job_id}&job={other}",
        "comparing": f"/comparisons/new?job={hold.job_id}",
    }
    grounds = set()
    for scheme in ("light", "dark"):
        for width in (1440, 390):
            window.appear(width=width, scheme=scheme)
            for page, address in pages.items():
                window.open(f"{api.url}{address}")
                if (figures := {"job": 3, "compare": 1}.get(page)) is not None:
                    drawn(window, figures)
                assert window.overflow_px() <= 0, (page, width, scheme)
                window.keep_picture(f"{page}-{width}-{scheme}")
        grounds.add(window.find("body").value_of_css_property("background-color"))
    assert len(grounds) == 2
    assert window.complaints() == []


def test_a_list_goes_on_by_itself_and_keeps_what_is_ticked(api: Api, window: Chromium) -> None:
    first, second = api.submit(name="first"), api.submit(name="second")
    window.open(f"{api.url}/login")
    window.type("#key", api.keys["owner"], Keys.ENTER)
    for job_id in (first, second):
        window.press(f"#tick-{job_id}")
    api.owner.post(f"/v1/jobs/{first}/cancel")
    third = api.submit(name="third", preset="kld")
    window.find(f"#tick-{third}")

    assert window.read(f"tr:has(#tick-{first}) .state") == "cancelled"
    ticked = window.values("input[name=job]:checked")
    assert ticked == [second, first]
    window.press(".below button")
    both = {"first", "second"}
    eventually(lambda: both <= set(window.text("thead").split()), within_s=20, what="the two side by side")
    assert window.complaints() == []
