"""The served application held against its own description by schemathesis, in a process of its own, with every check on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.described.hooks import SPECS
from tests.described.things import things
from tests.integration.http.api import Api

ROOT = Path(__file__).resolve().parents[2]
# Of the values of a parameter, how many lead somewhere.
KNOWN = 0.8
# Room for thousands of requests, some of which queue a job.
ROOM = {"queued_max": 1_000_000, "rate_per_minute": 1_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How it went: schemathesis' exit code and words, and the operations that were never answered with a success."""

    code: int
    said: str
    unserved: Sequence[str]


def trial(api: Api, folder: Path, *, seed: int, examples: int, everywhere: bool) -> Trial:
    """Fill the service and hold it against what it says of itself.

    `examples`: cases an operation in each phase of chance. `everywhere`: boundary values of the bodies of jobs and comparisons too,
    of which there are thousands.
    """
    config = _configured(api, folder, everywhere=everywhere)
    before = _served(api)
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run"]
    command += [f"{api.url}/openapi.json", "--checks", "all", "--no-color"]
    command += ["--seed", str(seed), "--max-examples", str(examples)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    after = _served(api)
    unserved = [name for name in _operations(api) if after.get(name, 0) == before.get(name, 0)]
    return Trial(code=done.returncode, said=done.stdout, unserved=unserved)


def _configured(api: Api, folder: Path, *, everywhere: bool) -> Path:
    known = things(api)
    people = [
        {"name": who, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {api.keys[who]}"}]}
        for who in ("owner", "other")
    ]
    (folder / "people.json").write_text(json.dumps({"auth": people}))
    lines = [
        'hooks = "tests.described.hooks"',
        "request-timeout = 20",
        "cache.enabled = false",
        'generation.database = "none"',
        *(f"dictionaries.{name}.values = {json.dumps(values)}" for name, values in known.items()),
        "[parameters]",
        *(_taken(f"path.{name}", name) for name in known if name != "waiting"),
        "[auth.wfc]",
        f"path = {json.dumps(str(folder / 'people.json'))}",
        'user = "owner"',
        'peers = ["owner", "other"]',
    ]
    for order in ("cancel", "pause", "resume"):
        lines += ["[[operations]]", f'include-path = "/v1/jobs/{{job_id}}/{order}"', "[operations.parameters]"]
        lines += [_taken("path.job_id", "waiting")]
    if not everywhere:
        lines += ["[[operations]]", f"include-path = {json.dumps(SPECS)}", "phases.coverage.enabled = false"]
    config = folder / "schemathesis.toml"
    config.write_text("\n".join(lines) + "\n")
    return config


def _taken(parameter: str, dictionary: str) -> str:
    return f'"{parameter}" = {{dictionary = "{dictionary}", probability = {KNOWN}}}'


def _operations(api: Api) -> Iterator[str]:
    described: Mapping[str, Any] = api.owner.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        yield from (f"{method.upper()} {path}" for method in methods)


def _served(api: Api) -> Mapping[str, float]:
    """Successes by operation, as the service counts them."""
    counted: dict[str, float] = {}
    for family in api.resources.requests.registry.collect():
        for sample in family.samples:
            if sample.name == "cpd_http_requests_total" and sample.labels["status"].startswith("2"):
                # Starlette marks a parameter that takes slashes; OpenAPI does not.
                name = f"{sample.labels['method']} {sample.labels['route'].replace(':path}', '}')}"
                counted[name] = counted.get(name, 0.0) + sample.value
    return counted
