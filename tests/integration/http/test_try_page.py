"""Teacher and student asked side by side: by the page's form alone, and as the page's script does it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.http.api import Api
from tests.integration.http.browsing import browser
from tests.integration.http.test_chat import MODEL, desk, open_rows


@pytest.fixture
def job(api: Api) -> str:
    """A finished job, whose teacher was tiny."""
    hold = api.claim(api.submit())
    api.seal(hold, "base-teacher", MODEL, role="phase")
    api.seal(hold, "model", MODEL)
    api.succeed(hold)
    return hold.job_id


def test_a_form_alone_brings_both_answers_and_the_question_again(api: Api, job: str) -> None:
    asked = {"question": "say <b>one</b> two", "temperature": "0.5", "max_tokens": "2"}
    with browser(api, "owner") as visitor, desk(api):
        assert f'href="/jobs/{job}/try"' in visitor.http.get(f"/jobs/{job}").text
        assert 'name="question"' in visitor.http.get(f"/jobs/{job}/try").text
        answer = visitor.submit(f"/jobs/{job}/try", asked)

    assert answer.status_code == 200
    assert answer.text.count('<p class="answer">&lt;b&gt;one&lt;/b&gt; two</p>') == 2
    assert answer.text.count("2 tokens, cut short") == 2
    assert "say &lt;b&gt;one&lt;/b&gt; two</textarea>" in answer.text
    assert 'value="0.5"' in answer.text
    assert open_rows(api) == 0


def test_the_script_hears_an_answer_as_it_grows(api: Api, job: str) -> None:
    with browser(api, "owner") as visitor, desk(api):
        answer = visitor.submit(f"/jobs/{job}/try/student", {"question": "say one two three"})

    lines: list[dict[str, Any]] = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert lines[-1] == {"text": "one two three", "finish_reason": "stop", "tokens": 3}
    assert all("one two three".startswith(line["text"]) for line in lines)


def test_who_cannot_answer_says_why_in_its_own_place(api: Api, job: str) -> None:
    unfinished = api.submit()
    with browser(api, "owner") as visitor:
        nobody = visitor.submit(f"/jobs/{job}/try", {"question": "x"})
        line = json.loads(visitor.submit(f"/jobs/{job}/try/teacher", {"question": "x"}).text)
        assert "once it has succeeded" in visitor.http.get(f"/jobs/{unfinished}/try").text
        with desk(api):
            neither = visitor.submit(f"/jobs/{unfinished}/try", {"question": "x"})
        wrong = visitor.submit(f"/jobs/{job}/try", {"question": " "})

    assert nobody.text.count("No worker is up") == 2
    assert "No worker is up" in line["failure"]
    assert "There is no such model" in neither.text or "The job has no such checkpoint" in neither.text
    assert (wrong.status_code, "1 to 20000 characters" in wrong.text) == (422, True)
