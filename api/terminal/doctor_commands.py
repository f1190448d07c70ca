"""`cpd doctor`: looks at this installation, and says what to do."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.text import Text

from api.terminal.operator import settings_from
from api.terminal.options import AsJson, DataDir
from api.terminal.output import print_json, stdout

_STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red"}
_FAILING = 4


def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at database, broker, store, disks, packages, engine and GPU as this machine sees them, and say what to do.

    Needs no key, and no running service: run it on the machine of the API and on each worker's. Exits 4 where something fails.
    """
    settings = settings_from(data_dir=data_dir)
    # Here and not above: it brings the broker's client and the migrations along, and other commands start faster without.
    from api.doctor.examination import examine
    from api.doctor.findings import Finding

    def show(finding: Finding) -> None:
        line = Text.assemble((f"{finding.level:8}", _STYLES[finding.level]), f"{finding.check}: {finding.said}")
        stdout().print(line)
        if finding.remedy:
            stdout().print(f"{'':8}→ {finding.remedy}", markup=False)

    found = []
    for finding in examine(settings):
        found.append(finding)
        if not as_json:
            show(finding)
    failures, warnings = (sum(one.level == level for one in found) for level in ("failure", "warning"))
    if as_json:
        print_json({"object": "examination", "healthy": not failures, "findings": [asdict(one) for one in found]})
    else:
        stdout().print(f"{len(found)} looked at, {failures} failing, {warnings} to mind", style="bold")
    if failures:
        raise typer.Exit(_FAILING)
