"""The dashboard over HTTP: log-in and log-out, forms of strangers, refusals as pages, and headers that let nothing foreign in."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from api.core.db import transaction
from api.keys.service import revoke_key
from api.web.tables import WebSession
from tests.integration.http.api import Api
from tests.integration.http.browsing import Browser, browser

CANARY = "<script>document.title='run'</script><img src=x onerror=alert(1)>"


def test_a_key_opens_a_session_whose_cookie_no_script_reads_and_no_other_site_sends(api: Api) -> None:
    answer = api.anonymous.post("/login", data={"key": f" {api.keys['owner']}\n", "next": "/jobs/job_1?a=b"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/job_1?a=b")
    name, *attributes = answer.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
    assert api.keys["owner"].split("_")[2] not in name


def test_a_wrong_key_is_told_and_opens_nothing(api: Api) -> None:
    answer = api.anonymous.post("/login", data={"key": "cpd_bogus"})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "unknown, expired or revoked" in answer.text


@pytest.mark.parametrize(
    "way", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\n/x"]
)
def test_a_log_in_leads_to_pages_of_ours_alone(api: Api, way: str) -> None:
    answer = api.anonymous.post("/login", data={"key": api.keys["owner"], "next": way})

    assert answer.headers["location"] == "/"


def test_the_way_that_was_asked_for_is_kept_over_the_log_in(api: Api) -> None:
    answer = api.anonymous.get("/", params={"cursor": "a&b"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F%3Fcursor%3Da%2526b")


@pytest.mark.parametrize("how", ["revoked", "outlived", "logged out"])
def test_a_session_ends_with_its_key_with_its_time_and_by_hand(api: Api, how: str) -> None:
    with browser(api, "owner") as visitor:
        assert visitor.http.get("/").status_code == 200
        end(api, visitor, how)

        # The cookie alone, as somebody would send it who had copied it before.
        assert visitor.http.get("/").status_code == 303


def end(api: Api, visitor: Browser, how: str) -> None:
    cookie = visitor.http.cookies["cpd_session"]
    match how:
        case "revoked":
            with transaction(api.backend.make) as session:
                assert revoke_key(session, api.keys["owner"].split("_")[1])
        case "outlived":
            with transaction(api.backend.make) as session:
                session.execute(update(WebSession).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        case _:
            assert visitor.submit("/logout").headers["location"] == "/login"
            assert "cpd_session" not in visitor.http.cookies
            visitor.http.cookies.set("cpd_session", cookie)


def test_the_database_keeps_no_token_and_forgets_outlived_sessions(api: Api) -> None:
    with browser(api, "owner") as first, transaction(api.backend.make) as session:
        kept = session.scalars(select(WebSession)).one()
        assert first.http.cookies["cpd_session"].encode() not in kept.token_sha256
        kept.expires_at = datetime.now(UTC) - timedelta(days=1)
    with browser(api, "reader"), transaction(api.backend.make) as session:
        assert session.scalars(select(WebSession.prefix)).all() == [api.keys["reader"].split("_")[1]]


def test_a_form_without_the_page_s_token_or_from_another_site_does_nothing(api: Api) -> None:
    with browser(api, "owner") as visitor, browser(api, "reader") as stranger:
        assert stranger.form_token is not None
        for fields in ({"next": "/"}, {"form_token": ""}, {"form_token": "é"}, {"form_token": stranger.form_token}):
            assert visitor.http.post("/logout", data=fields).status_code == 403
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            assert (
                visitor.http.post("/logout", data={"form_token": visitor.form_token}, headers=headers).status_code
                == 403
            )
            assert api.anonymous.post("/login", data={"key": api.keys["owner"]}, headers=headers).status_code == 403

        assert visitor.http.get("/").status_code == 200
        same = {"origin": api.url, "sec-fetch-site": "same-origin"}
        assert visitor.http.post("/logout", data={"form_token": visitor.form_token}, headers=same).status_code == 303


def test_a_body_that_is_no_form_is_refused(api: Api) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}

    assert api.anonymous.post("/login", json={"key": "x"}).status_code == 415
    assert api.anonymous.post("/login", content=b"key=%ff", headers=form).status_code == 422
    assert api.anonymous.post("/login", content=b"&".join([b"a=b"] * 101), headers=form).status_code == 422
    assert api.anonymous.post("/login", content=b"key=" + b"x" * 300_000, headers=form).status_code == 413


def test_every_page_lets_in_only_what_comes_from_here(api: Api) -> None:
    with browser(api, "owner") as visitor:
        for address in ("/", "/login"):
            answer = visitor.http.get(address)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
            assert "unsafe" not in policy
            assert "data:" not in policy
            assert "<script>" not in answer.text
            assert " style=" not in answer.text
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-frame-options"] == "DENY"


def test_what_people_write_is_shown_as_text(api: Api) -> None:
    api.submit(name=CANARY)
    with browser(api, "owner") as visitor:
        shown = visitor.http.get("/").text

    assert CANARY not in shown
    assert "&lt;script&gt;document.title" in shown


def test_a_file_is_kept_for_good_under_its_content_s_address_alone(api: Api) -> None:
    with browser(api, "anonymous") as visitor:
        page = visitor.http.get("/login").text
    address = next(part for part in page.split('"') if part.startswith("/static/style.css"))
    named, plain = api.anonymous.get(address), api.anonymous.get("/static/style.css?v=0123456789abcdef")

    assert named.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert plain.headers["cache-control"] == "no-cache"
    assert plain.content == named.content
    again = api.anonymous.get("/static/style.css", headers={"if-none-match": named.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    raw = api.anonymous.get("/static/plotly.min.js", headers={"accept-encoding": "identity"})
    assert len(raw.content) > 3_000_000
    assert raw.headers["content-type"].startswith("text/javascript")
    with api.anonymous.stream("GET", "/static/plotly.min.js", headers={"accept-encoding": "gzip"}) as packed:
        assert gzip.decompress(b"".join(packed.iter_raw())) == raw.content


def test_an_address_of_nothing_is_a_page_for_a_browser_and_the_envelope_for_a_program(api: Api) -> None:
    page = "text/html,application/xhtml+xml;q=0.9"
    with browser(api, "reader") as visitor:
        shown = visitor.http.get("/nothing/<b>", headers={"accept": page})
        called = visitor.http.get("/v1/nothing", headers={"accept": page})
    program = api.anonymous.get("/nothing")

    assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "Nothing is at this address" in shown.text
    assert "<b>" not in shown.text
    assert "script-src 'self'" in shown.headers["content-security-policy"]
    for answer in (called, program):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["nothing.css", "..%2Ftemplating.py", "%2e%2e%2froutes.py", "style.css%00"])
def test_no_other_file_is_given_out(api: Api, name: str) -> None:
    assert api.anonymous.get(f"/static/{name}").status_code == 404
