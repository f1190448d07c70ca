"""The side of the sandbox in which the tests of a problem run. It calls the program, which is elsewhere, and compares what comes back.

The tests are the data set's, hence sandboxed too; but the program under test is in another process, of another user, in other
namespaces. It cannot see the tests, patch their `assert`, or reach the pipe on which the verdict leaves.
"""

from __future__ import annotations

import json
import os
from typing import Any

from cpd_engine.evaluation.guests import checks, inputs
from cpd_engine.evaluation.guests.remote import Program


def run(job: dict[str, Any]) -> None:
    """Examine the program behind job["requests"] and job["replies"]; write {nonce, suites, unusable} to job["verdict"].

    `suites`: for `base`, and `plus` where there is one, {tests, failed, reason}. `unusable`: why the tests cannot be run, or None.
    """
    program = Program(job["requests"], job["replies"], call_s=job["call_s"], wall_s=job["wall_s"])
    suites: dict[str, Any] = {}
    unusable = None
    examine = {"checks": checks.examine, "inputs": inputs.examine}[job["examination"]["kind"]]
    try:
        for suite, tally in examine(job["examination"], program):
            suites[suite] = {"tests": tally.tests, "failed": tally.failed, "reason": tally.reason}
    except BaseException as error:
        unusable = type(error).__name__
    verdict = {"nonce": job["nonce"], "suites": suites, "unusable": unusable}
    with os.fdopen(job["verdict"], "wb") as pipe:
        pipe.write(json.dumps(verdict).encode() + b"\n")
