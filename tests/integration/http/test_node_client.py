"""The official Node client, as it is published, through the life of a job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.http.api import Api
from tests.integration.http.test_chat import MODEL, desk

SCRIPT = Path(__file__).parents[2] / "node" / "life.mjs"
INSTALLED = Path(__file__).parents[3] / "build" / "node"


def life(api: Api, *words: str) -> Any:
    """What the script says; it runs beside the installed package, where Node looks for it."""
    environment = os.environ | {"OPENAI_BASE_URL": f"{api.url}/v1", "OPENAI_API_KEY": api.keys["owner"]}
    script = shutil.copy(SCRIPT, INSTALLED / SCRIPT.name)
    command = ["node", script, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(
    shutil.which("node") is None and "CPD_TEST_NODE" not in os.environ,
    reason="needs node on the PATH; apt-get install nodejs npm",
)
@pytest.mark.skipif(
    not (INSTALLED / ".installed").exists() and "CPD_TEST_NODE" not in os.environ,
    reason="needs the Node client under build/node; make node-client",
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_node_client_runs_the_life_of_a_job(api: Api) -> None:
    begun = life(api, "begin")
    job = begun["job"]
    assert begun == {
        "job": job,
        "teacher": "tiny:gpt2",
        "paused": "paused",
        "listed": [job],
        "refused": [True, 404, "not_found"],
    }

    hold = api.claim(job)
    api.seal(hold, "step-000007", {"manifest.json": b"{}"}, role="training")
    api.seal(hold, "model", MODEL)
    api.succeed(hold)
    with desk(api):
        ended = life(api, "end", job)

    assert ended["status"] == "succeeded"
    assert ended["seqs"] == list(range(len(ended["seqs"]), 0, -1))
    assert len(ended["seqs"]) > 4
    assert ended["steps"] == [7, 7]
    assert ended["bytes"][0] == ended["bytes"][1] > 0
    assert ended["models"] == [f"ft:{job}:model"]
    assert ended["said"] == ["one two three", "one two three", 3]
