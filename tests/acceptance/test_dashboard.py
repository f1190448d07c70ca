"""A whole job by the dashboard alone: log in, upload rows, submit, watch it live to its end, take the student home."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.acceptance.conftest import Service
from tests.backends import Backend
from tests.browser.chromium import Chromium
from tests.browser.conftest import window
from tests.deadline import eventually

__all__ = ["window"]

SPEC = {
    "max_length": 160,
    "threads": 1,
    "optimizer": {"learning_rate": 3e-3, "batch_size": 8},
    "evaluation": {"validation_rows": 8, "test_rows": 8, "baselines": [], "generation": {"max_new_tokens": 8}},
    "checkpoints": {"every_steps": 10, "keep": 2},
}
TEACHER = {"tiny": "gpt2", "layers": 2, "hidden": 64, "heads": 2, "vocabulary": 512}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_person_goes_from_rows_to_a_student_without_a_command_line(
    start: Callable[..., Service], backend: Backend, rows: Path, window: Chromium
) -> None:
    service = start(backend)
    window.open(service.url)
    window.type("#key", service.environment["CPD_API_KEY"], Keys.ENTER)
    window.press("nav a[href='/datasets']")
    window.type("#file", str(rows / "train.jsonl"))
    window.press("form[action='/datasets'] button")
    window.press("a.button[href^='/submit?train=']")
    window.write("#name", "by hand")
    window.write("#student", "from-teacher:1")
    window.write("#epochs", "3")
    window.write("#advanced", json.dumps(SPEC | {"teacher": TEACHER}))
    window.press("button[value=plan]")
    window.press("button[value=submit]")

    # Live: the page follows the job from the queue to its end, and is never loaded again.
    window.find("#standing .state")
    window.driver.execute_script("window.sameAsEver = true")
    eventually(lambda: window.all("[data-figure] > .plot-container"), within_s=120, what="the first loss")
    eventually(
        lambda: window.text("#standing .state") in ("succeeded", "failed"), within_s=240, what="the end of the job"
    )
    assert window.text("#standing .state") == "succeeded", window.text() + service.tail()
    assert window.driver.execute_script("return window.sameAsEver")
    eventually(lambda: "distilled student" in window.text("#standing"), within_s=20, what="the scores")

    window.press("#files a[href$='model.safetensors']")
    stated = window.read("tr:has(a[href$='model.safetensors']) .hash")
    saved = window.downloads / "model.safetensors"
    eventually(saved.exists, within_s=60, what="the download")
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == stated
    assert window.complaints() == []
    window.keep_picture("finished")
