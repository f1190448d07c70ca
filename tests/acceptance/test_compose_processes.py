"""docker-compose.yml without Docker: its commands, in its order, on a real PostgreSQL and Redis. Only addresses and ports differ."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from migrations.apply import downgrade
from tests.backends import Backend
from tests.deadline import eventually

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]
CPD = str(Path(sys.executable).with_name("cpd"))


def command(service: str) -> list[str]:
    """A service's command, on loopback and any free port."""
    changed = {"cpd": CPD, "0.0.0.0": "127.0.0.1", "8000": "0"}
    return [changed.get(word, word) for word in SERVICES[service]["command"]]


def environment(service: str, backend: Backend, folder: Path) -> dict[str, str]:
    """A service's environment, with the test's servers and folders in the place of the containers'."""
    declared = {name for name in SERVICES[service]["environment"] if name.startswith("CPD_")}
    here = backend.environment(
        data_dir=str(folder / "artifacts"),
        scratch_dir=str(folder / "scratch"),
        hub_cache=str(folder / "hub"),
        hub_endpoint="",
        log_format="json",
        model_roots=str(folder),
    )
    return {name: value for name, value in here.items() if not name.startswith("CPD_") or name in declared}


def once(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def running(words: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as written:
        process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=written, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_the_services_come_up_in_their_order_and_drain_on_sigterm(backend: Backend, tmp_path: Path) -> None:
    downgrade(backend.settings.database_url, "base")
    (tmp_path / "artifacts").mkdir()
    environments = {name: environment(name, backend, tmp_path) for name in ("migrate", "api", "worker")}

    migrated = once(command("migrate"), environments["migrate"])
    assert migrated.returncode == 0, migrated.stderr

    open_to_all = once([CPD, *SERVICES["api"]["command"][1:]], environments["api"])
    assert open_to_all.returncode != 0, "without a key the api must not listen beyond loopback"
    assert "cpd keys create" in open_to_all.stderr

    made = once([CPD, "keys", "create", "me", "--json"], environments["api"])
    key = json.loads(made.stdout)["key"]

    api = running([*command("api"), "--json"], environments["api"], tmp_path / "api.log")
    worker = running([CPD, "worker"], environments["worker"], tmp_path / "worker.log")
    probe = [CPD, *SERVICES["worker"]["healthcheck"]["test"][2:]]
    with api as served, worker as working:
        assert served.stdout is not None
        url = json.loads(served.stdout.readline())["url"]
        [python, flag, program] = SERVICES["api"]["healthcheck"]["test"][1:]
        healthy = once([sys.executable, flag, program.replace("http://127.0.0.1:8000", url)], environments["api"])
        assert python == "python"
        assert healthy.returncode == 0, healthy.stderr

        eventually(
            lambda: once(probe, environments["worker"]).returncode == 0, within_s=60, what="the worker's health check"
        )
        assert httpx.get(f"{url}/readyz").json()["status"] == "ok"
        assert httpx.get(f"{url}/v1/jobs", headers={"Authorization": f"Bearer {key}"}).json()["data"] == []

        for process in (working, served):
            process.send_signal(signal.SIGTERM)
        assert working.wait(timeout=60) == 0
        assert served.wait(timeout=60) == 0


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_machine_without_a_worker_fails_the_probe(backend: Backend, tmp_path: Path) -> None:
    probed = once([CPD, "probe"], environment("worker", backend, tmp_path))

    assert probed.returncode == 4
    assert "no worker of this machine" in probed.stderr
