"""docs/api.md is true: every block of it is run, in its order, against a running service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Service
from tests.backends import Backend

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
# Adds the status to what curl prints, and no progress.
CURL = 'curl() { command curl --silent --show-error --write-out "\\n%{http_code}" "$@"; }\n'


def run(block: str, environment: dict[str, str], folder: Path) -> str:
    """The body that the block's call answers; fails the test unless its status is a success."""
    done = subprocess.run(
        ["bash", "-c", CURL + block],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    body, _, status = done.stdout.rpartition("\n")
    assert status[:1] == "2", f"{block}\nanswered {status}: {body}{done.stderr}"
    return body


def answer(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl on the PATH; apt-get install curl")
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_every_call_of_the_page_works(
    start: Callable[..., Service], backend: Backend, rows: Path, tmp_path: Path
) -> None:
    service = start(backend)
    folder = tmp_path / "page"
    folder.mkdir()
    shutil.copy(rows / "train.jsonl", folder)
    environment = service.environment | {"KEY": service.environment["CPD_API_KEY"], "ONCE": "first"}
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    submission = next(block for block in blocks if "Idempotency-Key" in block)
    assert len(blocks) > 20

    for block in blocks:
        body = run(block, environment, folder)
        found = answer(body)
        match found:
            case {"object": "dataset", "id": str(dataset)}:
                environment["DATASET"] = dataset
            case {"object": "job", "id": str(job)}:
                environment["JOB"] = job
            case {"object": "comparison", "id": str(comparison)}:
                environment["COMPARISON"] = comparison
        if "/jobs/$JOB/cancel" in block:
            # What follows on the page is about a job that was let run.
            environment["ONCE"] = "second"
            environment["JOB"] = json.loads(run(submission, environment, folder))["id"]
    assert (folder / "student.tar").stat().st_size > 0
    assert (folder / "table.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_every_route() -> None:
    """Paths of the OpenAPI snapshot, with their parameters as the page writes them."""
    described = json.loads((PAGE.parent / "openapi.json").read_text())["paths"]
    ids = {"{job_id}": "$JOB", "{dataset_id}": "$DATASET", "{comparison_id}": "$COMPARISON"}
    figures = {
        "$JOB/figures/{name}": "$JOB/figures/profile",
        "$COMPARISON/figures/{name}": "$COMPARISON/figures/methods",
    }
    names = ids | figures | {"{name}": "model", "{path}": "manifest.json"}
    page = PAGE.read_text()
    for path in described:
        written = path
        for parameter, example in names.items():
            written = written.replace(parameter, example)
        assert re.search(rf'\$CPD_URL{re.escape(written)}["?]', page), f"docs/api.md has no call of {path}"
