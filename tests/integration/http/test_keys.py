"""Keys: shown once, closed for every route when they are over; and quotas that many requests at once do not get past."""

from __future__ import annotations

import ast
import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import MetaData, select
from typer.testing import CliRunner

from api.cli import app as command
from api.core.db import transaction
from api.core.settings import Settings
from api.keys import service
from api.keys.service import create_key, revoke_key
from api.remote.trouble import BadInput
from api.serve import prepare
from tests.backends import Backend
from tests.integration.http.api import JSONL, ROWS, SPEC, Api, serving
from tests.integration.http.test_access import CALLS, send

REFUSALS = {401: "invalid_api_key", 403: "insufficient_scope"}


def test_no_route_opens_to_a_key_that_is_over_or_reads_for_one_that_may_only_write(api: Api) -> None:
    keys = {"revoked": api.new_key("read", "write", "admin"), "writer": api.new_key("write")}
    with transaction(api.backend.make) as session:
        past = datetime.now(UTC) - timedelta(minutes=1)
        keys["expired"] = create_key(session, name="old", tenant="test", expires_at=past)
        assert revoke_key(session, keys["revoked"].split("_")[1])
    wrong = []
    for who, key in keys.items():
        expected = "insufficient_scope" if who == "writer" else "invalid_api_key"
        with api.client(key) as client:
            for (method, path), call in CALLS.items():
                if not path.startswith("/v1/") or (who == "writer" and call.scope != "read"):
                    continue
                # Who asks comes before what: no id need be one.
                answer = send(client, method, re.sub(r"\{[^}]*\}", "nothing", path) + call.query, call)
                if REFUSALS.get(answer.status_code) != expected:
                    wrong.append(f"{method} {path} as {who}: {answer.status_code} instead of {expected}")

    assert wrong == []


def test_a_key_is_shown_when_it_is_made_and_never_again(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in backend.environment().items():
        monkeypatch.setenv(name, value)
    made = CliRunner().invoke(command, ["keys", "create", "ci", "--scope", "read"])
    [key] = re.findall(r"cpd_[0-9a-f]{12}_[0-9a-f]{48}", made.output)
    listed = [CliRunner().invoke(command, ["keys", "list", *options]) for options in ([], ["--json"])]

    assert [result.exit_code for result in (made, *listed)] == [0, 0, 0]
    secret = key.split("_")[2]
    assert all(secret not in result.output and key.split("_")[1] in result.output for result in listed)
    assert secret not in everything_stored(backend)


def test_the_first_key_is_made_for_its_owner_s_eyes_and_once(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first = prepare(settings)

    assert first is not None
    assert settings.key_file.read_text("utf-8").strip() == first
    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
    assert prepare(settings) is None


def test_nothing_listens_beyond_this_machine_without_a_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", host="0.0.0.0")
    with pytest.raises(BadInput, match="without an API key"):
        prepare(settings)
    assert not settings.key_file.exists()
    prepare(Settings(data_dir=tmp_path / "data"))

    assert prepare(settings) is None


def everything_stored(backend: Backend) -> str:
    """Every value of every table."""
    tables = MetaData()
    tables.reflect(backend.engine)
    with backend.engine.connect() as connection:
        return "\n".join(
            str(tuple(row)) for table in tables.tables.values() for row in connection.execute(select(table))
        )


def test_a_key_is_compared_in_constant_time() -> None:
    """`==` of texts stops at the first difference, whose place then shows in the time."""
    tree = ast.parse(Path(service.__file__).read_text("utf-8"))
    [identify] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "identify"]
    compared = {ast.unparse(node) for node in ast.walk(identify) if isinstance(node, ast.Compare)}
    called = {ast.unparse(node.func) for node in ast.walk(identify) if isinstance(node, ast.Call)}

    assert compared == {"key is None"}
    assert "hmac.compare_digest" in called


def at_once(ask: Callable[[], httpx.Response], times: int = 50) -> Counter[tuple[int, str | None]]:
    """Statuses and codes of so many requests that begin together."""
    start = threading.Barrier(times)

    def one(_: int) -> httpx.Response:
        start.wait()
        return ask()

    with ThreadPoolExecutor(times) as pool:
        answers = list(pool.map(one, range(times)))
    return Counter((a.status_code, None if a.is_success else a.json()["error"]["code"]) for a in answers)


def test_fifty_jobs_at_once_fill_the_quota_and_no_more(short: Backend) -> None:
    with serving(short.with_settings(queued_max=7)) as api:
        api.owner.timeout = 120.0
        found = at_once(lambda: api.owner.post("/v1/jobs", json=SPEC))

        assert found == {(202, None): 7, (429, "quota_exceeded"): 43}
        assert len(api.owner.get("/v1/jobs").json()["data"]) == 7
        assert api.other.post("/v1/jobs", json=SPEC).status_code == 202


def test_fifty_uploads_at_once_fill_the_quota_and_no_more(short: Backend) -> None:
    with serving(short.with_settings(stored_max_bytes=7 * len(ROWS))) as api:
        api.owner.timeout = 120.0
        found = at_once(lambda: api.owner.post("/v1/datasets?name=a", content=ROWS, headers=JSONL))
        kept = [path for path in short.settings.store_dir.rglob("*") if path.is_file()]

        assert found == {(201, None): 7, (429, "quota_exceeded"): 43}
        assert len(kept) == len(api.owner.get("/v1/datasets").json()["data"]) == 7
        assert not list((short.settings.scratch_dir / "uploads").glob("*"))
