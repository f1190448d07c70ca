"""What chaos did and what came of it, for people and for machines."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """One fault that met something. `recovered_s`: from its end, or from the kill, until the job that it met goes on, or any where
    it met no one worker; None where nothing was to go on.
    """

    at: datetime
    fault: str
    target: str
    lasted_s: float
    worker: int | None = None
    recovered_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run of chaos."""

    backend: str
    engine: str
    seed: int
    seconds: float
    jobs: int
    succeeded: int
    cancelled: int
    attempts: int
    struck: Sequence[Struck]
    breaches: Sequence[str]

    @property
    def kills(self) -> int:
        """Processes that were killed or stopped for good."""
        return sum(struck.fault.startswith(("kill", "drain", "crash", "stop")) for struck in self.struck)

    def text(self) -> str:
        """For a person."""
        lines = [
            f"chaos on {self.backend} with the {self.engine} engine: {self.seconds:.0f} s, seed {self.seed}",
            f"{self.jobs} jobs in {self.attempts} attempts: {self.succeeded} succeeded, {self.cancelled} cancelled as asked",
            f"{len(self.struck)} faults, {self.kills} of them kills and stops",
            f"{'fault':18} {'times':>5} {'recovered in s: median':>23} {'longest':>8}",
        ]
        for fault, times in sorted(Counter(struck.fault for struck in self.struck).items()):
            took = [each.recovered_s for each in self.struck if each.fault == fault and each.recovered_s is not None]
            figures = f"{median(took):23.1f} {max(took):8.1f}" if took else ""
            lines.append(f"{fault:18} {times:5} {figures}".rstrip())
        lines += ["all invariants hold"] if not self.breaches else [f"BROKEN: {breach}" for breach in self.breaches]
        return "\n".join(lines)

    def keep(self, folder: Path) -> None:
        """As text, JSON and CSV."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{self.backend}-{self.engine}-{self.seed}"
        stem.with_suffix(".txt").write_text(self.text() + "\n", "utf-8")
        stem.with_suffix(".json").write_text(
            json.dumps({"kills": self.kills} | asdict(self), indent=1, default=str) + "\n", "utf-8"
        )
        with stem.with_suffix(".csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["at", "fault", "target", "lasted_s", "recovered_s"])
            rows.writerows([each.at, each.fault, each.target, each.lasted_s, each.recovered_s] for each in self.struck)
