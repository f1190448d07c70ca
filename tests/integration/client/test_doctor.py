"""`cpd doctor` against installations that are well, and against each way in which one is not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import delete

from api.core.db import transaction
from api.core.settings import Settings
from api.doctor import broker, database, disks, engine, hub
from api.doctor.examination import examine
from api.doctor.findings import Finding
from api.jobs.tables import Worker
from api.keys.service import create_key
from migrations.apply import downgrade
from tests.backends import Backend

CPD = str(Path(sys.executable).with_name("cpd"))


def levels(findings: Iterator[Finding]) -> dict[str, tuple[str, str]]:
    """The worst level of each check, and what was said with it."""
    order = ("ok", "warning", "failure")
    found: dict[str, tuple[str, str]] = {}
    for one in findings:
        if one.check not in found or order.index(found[one.check][0]) < order.index(one.level):
            found[one.check] = (one.level, one.said)
    return found


def ran(backend: Backend, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CPD, "doctor", *options], capture_output=True, text=True, timeout=200, env=backend.environment(**environment)
    )


def test_nothing_fails_in_an_installation_that_is_well(backend: Backend) -> None:
    with transaction(backend.make) as session:
        create_key(session, name="mine")
        session.add(Worker(id="w1", hostname="here", pid=1, version="0.1.0"))

    done = ran(backend, "--json")

    told: dict[str, Any] = json.loads(done.stdout)
    found = {one["check"]: one for one in told["findings"]}
    assert (done.returncode, told["healthy"]) == (0, True), told
    assert {"database", "schema", "keys", "workers", "broker", "store", "packages", "engine", "GPU"} <= set(found)
    assert [one["check"] for one in told["findings"] if one["level"] == "failure"] == []
    assert "1 alive" in found["workers"]["said"]
    assert "torch 2." in found["engine"]["said"]
    assert backend.stored("doctor") == {}, "nothing of it stays behind"


def test_a_failure_is_told_to_people_with_what_to_do_and_by_the_exit_code(tmp_path: Path, backend: Backend) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"postgresql+psycopg://nobody:secret-word@127.0.0.1:{taken.getsockname()[1]}/none"
        done = ran(backend, database_url=nowhere)

    assert done.returncode == 4
    assert "failure database: " in done.stdout
    assert "CPD_DATABASE_URL" in done.stdout
    assert "secret-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_another_version_is_told(backend: Backend) -> None:
    downgrade(backend.settings.database_url, "base")

    found = levels(database.examined(backend.settings))

    assert found["schema"][0] == "failure"
    assert "workers" not in found, "nothing is read from tables that are not there"


def test_there_being_no_database_yet_is_no_failure(tmp_path: Path) -> None:
    found = levels(database.examined(Settings(data_dir=tmp_path / "new")))

    assert found == {"database": ("warning", "there is none yet")}
    assert not (tmp_path / "new").exists(), "looking makes nothing"


def test_listening_to_all_without_a_key_is_a_failure(backend: Backend) -> None:
    assert levels(database.examined(backend.settings))["keys"][0] == "warning"
    assert levels(database.examined(backend.with_settings(host="0.0.0.0").settings))["keys"][0] == "failure"


def test_workers_that_are_gone_or_of_another_version_are_told(backend: Backend) -> None:
    none = levels(database.examined(backend.settings))["workers"]
    with transaction(backend.make) as session:
        session.add(Worker(id="w1", hostname="there", pid=7, version="0.0.9"))
    other = levels(database.examined(backend.settings))["workers"]
    with transaction(backend.make) as session:
        session.execute(delete(Worker))
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        session.add(Worker(id="w2", hostname="there", pid=8, version="0.1.0", seen_at=long_ago))
    gone = levels(database.examined(backend.settings))["workers"]

    assert (none[0], other[0], gone[0]) == ("warning", "failure", "warning")
    assert "none was ever seen" in none[1]
    assert "0.0.9" in other[1]
    assert "3600 s ago" in gone[1]


@pytest.mark.parametrize(("apart_s", "level"), [(0.0, "ok"), (1.5, "ok"), (2.5, "warning"), (-400.0, "warning")])
def test_a_clock_is_judged_by_how_far_it_is_outside_of_the_two_looks(apart_s: float, level: str) -> None:
    before = datetime(2026, 1, 1, tzinfo=UTC)
    after = before + timedelta(seconds=3)
    theirs = (after if apart_s >= 0 else before) + timedelta(seconds=apart_s)

    assert database.clock(before, theirs, after).level == level


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_broker_that_is_away_is_a_warning_for_jobs_are_only_late(backend: Backend) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = backend.with_settings(broker_url=f"redis://127.0.0.1:{taken.getsockname()[1]}/0")

        assert levels(broker.examined(away.settings))["broker"][0] == "warning"
    assert levels(broker.examined(backend.settings))["broker"][0] == "ok"


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_broker_that_forgets_when_it_is_full_is_told(backend: Backend) -> None:
    with redis.from_url(backend.settings.broker_url) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            level, said = levels(broker.examined(backend.settings))["broker"]
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")

    assert level == "warning"
    assert "allkeys-lru" in said


def test_looking_at_a_store_makes_no_folder_and_leaves_another_s_look_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")

    assert levels(disks.examined(settings))["store"][0] == "warning"
    assert not settings.data_dir.exists()

    settings.store_dir.mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: levels(disks.examined(settings))["store"], range(64)))
    assert "failure" not in {level for level, _ in found}
    assert [path.name for path in settings.store_dir.rglob("*") if path.is_file()] == []


def test_a_data_folder_that_others_may_look_into_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_to_all = levels(disks.examined(Settings(data_dir=tmp_path)))
    tmp_path.chmod(0o700)

    assert open_to_all["data"][0] == "warning"
    assert "data" not in levels(disks.examined(Settings(data_dir=tmp_path)))


def test_a_part_that_breaks_is_a_finding_and_the_others_are_told(tmp_path: Path) -> None:
    # An engine that answers with something else than its facts.
    program = (sys.executable, "-c", "print('{}')")
    found = levels(examine(Settings(data_dir=tmp_path, engine_command=program)))

    assert found["engine"] == ("failure", "could not be looked at: KeyError")
    assert found["packages"][0] == "ok"


def test_a_store_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")

    assert levels(disks.examined(Settings(data_dir=tmp_path)))["store"][0] == "failure"


@pytest.mark.parametrize(
    ("free_bytes", "level"), [(2**39, "ok"), (disks.SCARCE_BYTES - 1, "warning"), (disks.FAILING_BYTES - 1, "failure")]
)
def test_room_is_judged_by_what_the_disk_has_left(tmp_path: Path, free_bytes: int, level: str) -> None:
    assert disks.room("store", tmp_path, free_bytes=free_bytes, total_bytes=2**40).level == level


def test_a_first_key_that_others_may_read_is_told(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("cpd_…")
    key.chmod(0o644)
    open_to_all = levels(disks.examined(Settings(data_dir=tmp_path)))
    key.chmod(0o600)

    assert open_to_all["first key"][0] == "warning"
    assert "first key" not in levels(disks.examined(Settings(data_dir=tmp_path)))


def test_an_engine_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    without = [sys.executable, "-c", "import torch_of_nowhere"]
    missing = [str(tmp_path / "none")]

    for command, words in ((without, "torch_of_nowhere"), (missing, "No such file")):
        level, said = levels(engine.examined(Settings(data_dir=tmp_path, engine_command=tuple(command))))["engine"]
        assert level == "warning"
        assert words in said


def test_a_sandbox_is_tried_where_programs_may_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    off = levels(engine.examined(Settings(data_dir=tmp_path)))
    on = levels(engine.examined(Settings(data_dir=tmp_path, code_execution="bubblewrap")))

    assert "sandbox" not in off
    assert on["sandbox"][0] == "failure"
    assert "bubblewrap" in on["sandbox"][1]


def test_what_jobs_may_name_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        here = levels(hub.examined(Settings(data_dir=tmp_path, model_roots=(tmp_path / "models",))))
        gone = levels(hub.examined(Settings(data_dir=tmp_path, model_roots=(tmp_path / "none",), hub_endpoint=nowhere)))

    assert here == {"models": ("ok", f"1 in {tmp_path / 'models'}")}
    assert {check: level for check, (level, _) in gone.items()} == {"models": "warning", "hub": "warning"}


def test_a_server_that_hangs_costs_its_own_part_and_no_other(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://a:b@127.0.0.1:{silent.getsockname()[1]}/c"
        settings = Settings(
            data_dir=tmp_path, database_url=url, engine_command=(sys.executable, "-c", "raise SystemExit(1)")
        )
        found = levels(examine(settings, within_s=2.0))

    assert found["database"] == ("failure", "no answer within 2 s")
    assert found["store"][0] != "failure"
    assert found["packages"][0] == "ok"
