"""Logging in and out in a real browser, by keyboard, with and without scripts."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Chromium
from tests.integration.http.api import Api

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def test_a_person_logs_in_by_keyboard_sees_the_jobs_and_logs_out(api: Api, window: Chromium) -> None:
    api.submit(name="first <b>light</b>")
    window.open(f"{api.url}/jobs/nothing?x=time")
    window.type("#key", "cpd_wrong", Keys.ENTER)
    window.find("[role=alert]")
    window.type("#key", api.keys["owner"], Keys.ENTER)

    # The way that was asked for is kept.
    assert "no such job" in window.read("[data-error=not_found]")
    window.press(".brand")
    assert "first <b>light</b>" in window.read("tbody")
    window.type(".leave button", Keys.ENTER)
    window.find("#key")
    window.open(f"{api.url}/")
    assert window.find("#key")
    # The browser tells of the two refusals that were asked for, and of nothing else.
    assert [line for line in window.complaints() if "401" not in line and "404" not in line] == []


def test_lists_are_read_without_scripts(api: Api, plain_window: Chromium) -> None:
    api.submit(name="without scripts")
    plain_window.open(f"{api.url}/login")
    plain_window.type("#key", api.keys["reader"], Keys.ENTER)

    assert "without scripts" in plain_window.read("tbody")
