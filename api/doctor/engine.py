"""Whether engines start here, and on what: asked of one, as a worker would start it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from shutil import which
from typing import Any

from api.core.settings import Settings
from api.doctor.findings import Finding, broken, doubtful, well
from api.quantities import size

START_S = 120.0
_NO_ENGINE = "install the extra `engine`, or run jobs on other machines (an api needs none)"


def examined(settings: Settings) -> Iterator[Finding]:
    """Its versions and devices, and its sandbox where programs may run."""
    trial = ["--sandbox"] if settings.code_execution == "bubblewrap" else []
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CPD_", "AWS_"))}
    try:
        asked = subprocess.run(
            [*settings.engine_command, "about", *trial], capture_output=True, text=True, timeout=START_S, env=kept
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield doubtful("engine", f"does not start: {error}", "correct CPD_ENGINE_COMMAND")
        return
    if asked.returncode:
        words = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        yield doubtful("engine", f"does not start: {words[-1]}", _NO_ENGINE)
        return
    told: dict[str, Any] = json.loads(asked.stdout)
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    yield well("engine", f"starts: {versions}; {told['threads']} threads")
    yield _devices(told)
    if told["sandbox"] == "confines":
        yield well("sandbox", "programs that models write are confined")
    elif told["sandbox"] is not None:
        remedy = 'docs/operations.md, "Programs that models write", or CPD_CODE_EXECUTION=off'
        yield broken("sandbox", told["sandbox"], remedy)


def _devices(told: dict[str, Any]) -> Finding:
    if told["devices"]:
        names = ", ".join(
            f"{one['name']} ({size(one['memory_bytes'])}{'' if one['bf16'] else ', no bf16'})"
            for one in told["devices"]
        )
        return well("GPU", names)
    if which("nvidia-smi") is None:
        return well("GPU", "none: engines use the CPU")
    return doubtful(
        "GPU",
        f"there is a driver, but torch {told['versions']['torch']} sees no GPU",
        "install a CUDA build of torch that fits the driver, and look at CUDA_VISIBLE_DEVICES and `nvidia-smi`",
    )
