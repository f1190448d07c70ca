"""A command that is run again, local files and all, finds what it has made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.http.api import COMPARISON, ROWS, SPEC, Api

CPD = Path(sys.executable).with_name("cpd")


def cpd(api: Api, *words: str | Path) -> Any:
    """The JSON answer of a command that must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CPD_")}
    environment |= {"CPD_URL": api.url, "CPD_API_KEY": api.keys["owner"]}
    done = subprocess.run(
        [CPD, *words, "--json"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def written(folder: Path, name: str, spec: dict[str, Any]) -> Path:
    (folder / "rows.jsonl").write_bytes(ROWS)
    (folder / name).write_text(json.dumps(spec))
    return folder / name


def data_sets(api: Api) -> list[str]:
    return [found["id"] for found in api.owner.get("/v1/datasets").json()["data"]]


def test_submit_and_compare_run_twice_under_one_key_upload_once_and_queue_once(api: Api, tmp_path: Path) -> None:
    data = {"train": "rows.jsonl", "test": "rows.jsonl"}
    recipe = written(tmp_path, "recipe.json", SPEC | {"dataset": data})
    jobs = [cpd(api, "submit", recipe, "--idempotency-key", "one")["id"] for _ in range(2)]
    [data_set] = data_sets(api)
    base = COMPARISON["base"] | {"dataset": data}
    spec = written(tmp_path, "comparison.json", COMPARISON | {"base": base, "seeds": [0]})
    made = [cpd(api, "compare", spec, "--idempotency-key", "two")["id"] for _ in range(2)]
    assert jobs[0] == jobs[1]
    assert made[0] == made[1]
    assert data_sets(api) == [data_set]
    assert len(api.owner.get("/v1/jobs").json()["data"]) == 3
    (tmp_path / "rows.jsonl").write_bytes(ROWS + ROWS[-40:].splitlines(keepends=True)[-1])
    assert cpd(api, "submit", recipe)["resolved"]["dataset"]["train"] != data_set
