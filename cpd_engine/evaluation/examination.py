"""What an examination of a program may use, and what comes out of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use. `wall_s` bounds the whole examination, `call_s` one call; memory counts for each of its processes."""

    wall_s: float = 60.0
    call_s: float = 10.0
    cpu_s: int = 60
    memory_bytes: int = 2**30
    processes: int = 8
    file_bytes: int = 16 * 2**20
    temporary_bytes: int = 64 * 2**20
    open_files: int = 64

    def rlimits(self) -> dict[str, int]:
        """Limits, soft and hard, by their names in `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """How a program did in a suite of tests. `reason` is None where all passed."""

    tests: int
    failed: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """The suites that were run, by name. `unusable`: why the tests themselves do not run; `cut_off`: no verdict came in time."""

    suites: Mapping[str, Suite]
    unusable: str | None = None
    cut_off: bool = False

    @property
    def passed(self) -> bool:
        """Whether there were tests in every suite and not one failed."""
        suites = self.suites.values()
        return bool(suites) and self.unusable is None and all(each.tests and not each.failed for each in suites)


def examined(said: bytes, nonce: str) -> Examined:
    """The verdict in what was said, if it carries the nonce; anything else is none at all."""
    try:
        found = json.loads(said)
        if secrets.compare_digest(str(found["nonce"]), nonce):
            suites = {str(name): Suite(**suite) for name, suite in found["suites"].items()}
            return Examined(suites=suites, unusable=found["unusable"])
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return Examined(suites={}, cut_off=True)
