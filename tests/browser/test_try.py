"""Teacher and student side by side in a real browser, with scripts and without."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Chromium
from tests.deadline import eventually
from tests.integration.http.api import Api
from tests.integration.http.test_chat import MODEL, desk

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

SAID = "the quick brown fox"


def finished(api: Api) -> str:
    """A finished job, whose teacher was tiny."""
    hold = api.claim(api.submit())
    api.seal(hold, "base-teacher", MODEL, role="phase")
    api.seal(hold, "model", MODEL)
    api.succeed(hold)
    return hold.job_id


def ask(window: Chromium, api: Api, job: str) -> None:
    """Log in, and send the form of the job's page."""
    window.open(f"{api.url}/login?next=/jobs/{job}")
    window.write("#key", api.keys["owner"])
    window.press("button.primary")
    window.press(f"a[href='/jobs/{job}/try']")
    window.write("#question", f"say {SAID}")
    window.press("#try button")


def answers(window: Chromium) -> list[str]:
    """What each has said, once both have."""

    def both() -> bool:
        notes = window.texts("[data-note]")
        return len(notes) == 2 and all("tokens" in note for note in notes)

    eventually(both, within_s=40, what="both answers")
    return window.texts(".answer")


def test_both_answers_grow_on_the_page_by_its_script(api: Api, window: Chromium) -> None:
    job = finished(api)
    with desk(api):
        ask(window, api, job)
        assert answers(window) == [SAID, SAID]
    window.appear(width=390)
    assert window.overflow_px() == 0
    window.keep_picture("try-narrow")
    assert window.complaints() == []


def test_a_browser_without_scripts_gets_a_page_with_both(api: Api, plain_window: Chromium) -> None:
    job = finished(api)
    with desk(api):
        ask(plain_window, api, job)
        assert answers(plain_window) == [SAID, SAID]
    assert plain_window.values("#question") == [f"say {SAID}"]
