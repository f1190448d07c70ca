"""A service whose every secret is a canary: none is found in what it logs, keeps, tells or hands out, nor are people's rows in its logs."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from sqlalchemy import MetaData, select
from sqlalchemy.engine import make_url

from api.core.telemetry import configure
from api.jobs.states import JobState
from tests.backends import Backend
from tests.buckets import Bucket
from tests.integration.http.api import JSONL, Api, outage, serving
from tests.integration.worker.fleet import SPEC, Fleet

DATABASE, JUDGE, STORE, TOKEN, ROW = "c4n4ry-database", "c4n4ry-judge", "c4n4ry-store", "c4n4ry-token", "c4n4ry-row"
ROWS = json.dumps({"prompt": ROW, "completion": ROW}).encode() + b"\n{\n"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What the API logs, as `cpd serve` has it, from the lowest level up; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sink = io.StringIO()
    configure(json=True, level="debug", stream=sink)
    yield sink
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def guarded(backend: Backend, bucket: Bucket) -> Backend:
    """The backend with a password in the database's address, which the test's server does not ask for, a judge with a key, and a bucket."""
    url = make_url(backend.settings.database_url).set(password=DATABASE).render_as_string(hide_password=False)
    judge = {"judge_url": "https://judge.example.com/v1", "judge_model": "j", "judge_api_key": JUDGE}
    return replace(backend.with_settings(database_url=url, **judge, **bucket.settings), bucket=bucket)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_no_secret_gets_out(
    guarded: Backend, tmp_path: Path, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORE)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    folder = tmp_path / "workers"
    folder.mkdir()
    fleet = Fleet(backend=guarded, folder=folder)
    try:
        with serving(guarded) as api:
            secrets = {DATABASE, JUDGE, STORE, TOKEN, *(key.split("_")[2] for key in api.keys.values())}
            job_id = ask_for_everything(api)
            fleet.start(
                judge_api_key=JUDGE, judge_url="https://judge.example.com/v1", judge_model="j", log_level="debug"
            )
            fleet.wait_state(job_id, JobState.SUCCEEDED)
            places = {**told(api, job_id), **kept(guarded, tmp_path), "log of the api": logged.getvalue()}
    finally:
        fleet.close()
    leaks = [(place, secret) for place, text in places.items() for secret in secrets if secret in text]
    rows = [place for place, text in places.items() if ROW in text and "/datasets/" not in place]

    assert leaks == []
    assert rows == []
    assert len(places) > 20


def ask_for_everything(api: Api) -> str:
    """Requests that put keys where they do not belong, an outage, and a job; that one's id."""
    key = api.keys["owner"]
    api.anonymous.get("/v1/jobs", headers={"authorization": f"Bearer {key[:-1]}x"})
    api.anonymous.get(f"/v1/jobs?api_key={key}&cursor={key}")
    api.anonymous.get(f"/v1/jobs/{key}")
    api.owner.post("/v1/jobs", json={"teacher": key, "key": key})
    api.owner.post("/v1/jobs", content=key.encode(), headers={"content-type": "application/json"})
    with outage(api):
        api.owner.get("/v1/jobs")
    upload = {"name": "rows", "max_bad_row_fraction": "0.5"}
    dataset = api.owner.post("/v1/datasets", params=upload, content=ROWS, headers=JSONL).json()["id"]
    evaluation = {"suites": [{"task": "dolly", "data": dataset}]}
    spec = {**SPEC, "dataset": {"train": dataset}, "evaluation": evaluation, "metadata": {"steps": "4", "every": "2"}}
    answer = api.owner.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def told(api: Api, job_id: str) -> Mapping[str, str]:
    """What a reader, or anybody, gets to see of the job and the service."""
    of_job = ("", "/events?limit=100", "/metrics", "/evaluation", "/checkpoints")
    texts = {rest: api.reader.get(f"/v1/jobs/{job_id}{rest}").text for rest in of_job}
    texts |= {address: api.anonymous.get(address).text for address in ("/metrics", "/readyz", "/openapi.json")}
    texts["settings"] = repr(api.resources.settings)
    archive = api.reader.get(f"/v1/jobs/{job_id}/checkpoints/model/download")
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        return texts | {f"archive: {one.name}": str(one.get_info()) + read(tar, one) for one in tar}


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    return (tar.extractfile(member) or io.BytesIO()).read().decode("latin-1")


def kept(backend: Backend, folder: Path) -> Mapping[str, str]:
    """Every table, and every file: the store, what attempts left, the workers' logs."""
    tables = MetaData()
    tables.reflect(backend.engine)
    with backend.engine.connect() as connection:
        rows = {
            f"table {table.name}": "\n".join(str(tuple(row)) for row in connection.execute(select(table)))
            for table in tables.tables.values()
        }
    stored = {f"store: /{key}": content.decode("latin-1") for key, content in backend.stored().items()}
    return rows | stored | {str(path): path.read_text("latin-1") for path in folder.rglob("*") if path.is_file()}
