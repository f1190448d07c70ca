"""From rows to results in a real browser: upload, plan, start, then profile, quality and answers, on every size and ground."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.browser.chromium import Chromium
from tests.deadline import eventually
from tests.integration.http.api import ROWS, Api
from tests.integration.http.test_figures import compared
from tests.integration.http.test_result_pages import CANARY, finished

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def log_in(api: Api, window: Chromium) -> None:
    window.open(f"{api.url}/login")
    window.type("#key", api.keys["owner"], Keys.ENTER)
    window.find("nav")


def drawn(window: Chromium) -> None:
    """Returns when every figure of the page is there."""
    eventually(
        lambda: len(window.all(".js-plotly-plot .main-svg")) >= len(window.all("[data-figure]")) > 0,
        within_s=30,
        what="the figures",
    )


def test_a_person_uploads_rows_plans_a_job_mends_it_and_starts_it(api: Api, window: Chromium, tmp_path: Path) -> None:
    rows = tmp_path / "rows <b>1.jsonl"
    rows.write_bytes(ROWS)
    log_in(api, window)
    window.press("nav a[href='/datasets']")
    window.type("#file", str(rows))
    window.press("form[action='/datasets'] button")
    eventually(lambda: "rows <b>1.jsonl" in window.text(".head"), within_s=20, what="the report of the rows")
    window.press("a.button[href^='/submit?train=']")

    window.write("#teacher", "tiny:gpt2")
    window.write("#student", "from-teacher:1")
    Select(window.find("#preset")).select_by_visible_text("paper")
    window.write("#epochs", "lots")
    window.type("#epochs", Keys.ENTER)
    assert "epochs" in window.read("#epochs-problem")
    eventually(lambda: window.all("#epochs:focus"), within_s=20, what="the focus on what is wrong")
    window.write("#epochs", "4")
    window.press("button[value=plan]")
    plan = window.read("#plan")
    assert "Optimizer steps" in plan
    assert "dead_epoch" in plan
    window.appear(width=390, scheme="dark")
    assert window.overflow_px() == 0
    window.keep_picture("plan-390-dark")
    window.press("button[value=submit]")

    (job,) = eventually(lambda: api.owner.get("/v1/jobs").json()["data"], within_s=20, what="the job")
    window.find(f"a[href='/jobs/{job['id']}'], h1")
    assert (job["state"], job["spec"]["epochs"], job["spec"]["preset"]) == ("queued", 4, "paper")
    assert [line for line in window.complaints() if "422" not in line] == []


def test_results_are_drawn_on_every_size_and_ground(api: Api, window: Chromium) -> None:
    job_id, comparison_id = finished(api), compared(api)
    log_in(api, window)
    pages = {
        "difficulty": f"/jobs/{job_id}/difficulty",
        "quality": f"/jobs/{job_id}/quality",
        "comparison": f"/comparisons/{comparison_id}",
    }
    for scheme in ("light", "dark"):
        for width in (1440, 390):
            window.appear(width=width, scheme=scheme)
            for name, address in pages.items():
                window.open(f"{api.url}{address}")
                drawn(window)
                assert window.overflow_px() == 0, (name, width)
                window.keep_picture(f"{name}-{width}-{scheme}")
    for address in (f"/jobs/{job_id}/answers", "/comparisons", "/datasets", "/submit"):
        window.open(f"{api.url}{address}")
        assert window.overflow_px() == 0, address

    assert window.driver.title != "run"
    assert window.complaints() == []


def test_a_profile_drawn_marks_the_plan_s_cuts_and_tells_a_sample(api: Api, window: Chromium) -> None:
    job_id = finished(api)
    log_in(api, window)
    window.open(f"{api.url}/jobs/{job_id}/difficulty")
    drawn(window)
    place = "document.querySelector('[data-figure$=profile]')"
    cuts = window.driver.execute_script(f"return {place}.data.find((one) => one.name === 'cut k of an epoch').x")
    hover = f"Plotly.Fx.hover({place}, [{{curveNumber: {place}.data.findIndex((one) => one.name === 'a sample'), pointNumber: 9}}])"
    window.driver.execute_script(hover)

    assert list(cuts) == [25, 50, 75, 100]
    # As text: what a prompt holds is no markup in a figure either.
    told = window.read(".hoverlayer .hovertext")
    assert "row-9" in told
    assert CANARY in told
    assert window.complaints() == []


def test_results_are_read_without_scripts(api: Api, plain_window: Chromium) -> None:
    job_id = finished(api)
    log_in(api, plain_window)
    plain_window.open(f"{api.url}/jobs/{job_id}/quality")
    assert "distilled student" in plain_window.read("table")
    plain_window.press("a[href$='figures/quality?as=table']")

    assert "exact match, %, n = 100" in plain_window.read("main")
    plain_window.open(f"{api.url}/jobs/{job_id}/difficulty")
    plain_window.press("details.sample summary")
    assert "54" in plain_window.read("details.sample[open]")
