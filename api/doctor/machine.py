"""Whether this machine's Python has what the service needs, and as many open files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from api.doctor.findings import Finding, broken, doubtful, well

# A followed job, an upload and a download take one each, a connection to the database another.
OPEN_FILES = 4096


def examined() -> Iterator[Finding]:
    """Installed packages against what this version asks for; limits of the process."""
    wrong = [said for name in requires("cpd") or () if (said := _amiss(Requirement(name))) is not None]
    if wrong:
        yield broken("packages", "; ".join(wrong), "install again from constraints.txt: `make setup`, or the image")
    else:
        yield well("packages", f"cpd {version('cpd')} and all that it needs")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        remedy = f"`ulimit -n {OPEN_FILES}` before the api starts, or LimitNOFILE= in its unit: streams take one each"
        yield doubtful("open files", f"{soft} at the most", remedy)
    else:
        yield well("open files", f"{soft} at the most")


def _amiss(requirement: Requirement) -> str | None:
    """What is wrong with a package that this installation needs; those of extras are the engine's to tell."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    return None if requirement.specifier.contains(found, prereleases=True) else f"{requirement} wanted, {found} found"
