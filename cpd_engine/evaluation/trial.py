"""Tries to get out of a sandbox before anything else runs in it. What these few programs can do, no program of a model's may."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpd_engine.errors import SandboxUnavailable
from cpd_engine.evaluation.examination import Examined

Examine = Callable[[str, Mapping[str, Any]], Examined]

_SHOWN = 200
# More than any sandbox allows, and no harm where nothing stops it.
_FORKS = 64

_PROBES = f"""
import os, socket, time

def add(a, b):
    return a + b

def reaches(ports):
    def connects(port):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True
    return [port for port in ports if connects(port)]

def sees(paths):
    return [path for path in paths if os.path.lexists(path)]

def knows():
    return sorted(os.environ)

def writes(paths):
    def opens(path):
        try:
            open(path, "w").close()
        except OSError:
            return False
        return True
    return [path for path in paths if opens(path)]

def is_root():
    return os.getuid() == 0 or os.geteuid() == 0

def allocates(size):
    try:
        bytearray(size)
    except MemoryError:
        return False
    return True

def forks():
    for count in range({_FORKS}):
        try:
            if not os.fork():
                time.sleep(60)
                os._exit(0)
        except OSError:
            return count
    return {_FORKS}
"""


def require_confined(examine: Examine, *, memory_bytes: int, visible: Sequence[Path]) -> None:
    """Raise SandboxUnavailable unless a program runs and meets the walls it should. `visible`: what of the machine is shown to it."""
    shown = {str(part) for path in visible for part in (path, *path.parents)}
    with _listening() as port, tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.touch(mode=0o644)
        Path(folder).chmod(0o755)
        around = [path for path in (*_around(Path.home()), *_around(Path.cwd())) if path not in shown]
        hidden = [str(secret), "/etc/passwd", "/etc/shadow", "/proc/self", "/proc/1", *around]
        probes = {
            "a plain function does not answer": ("add", "assert add(2, 3) == 5"),
            "the network can be reached": ("reaches", f"assert reaches([{port}]) == []"),
            "files of this machine can be seen": ("sees", f"assert sees({hidden!r}) == []"),
            "the environment can be read": ("knows", f"assert set(knows()) <= {_ENVIRONMENT!r}"),
            "files can be written outside /tmp": ("writes", "assert writes(['/x', '/usr/lib/x', '/dev/x']) == []"),
            "programs run as root": ("is_root", "assert not is_root()"),
            "memory is not limited": ("allocates", f"assert not allocates({memory_bytes})"),
            "processes are not limited": ("forks", f"assert forks() < {_FORKS}"),
        }
        for trouble, (name, test) in probes.items():
            found = examine(_PROBES, _examination(name, test))
            if not found.passed:
                raise SandboxUnavailable(
                    f"{trouble}: bubblewrap does not confine here, so no program of a model's is run"
                )


_ENVIRONMENT = frozenset({"HOME", "LANG", "LC_CTYPE", "OPENBLAS_NUM_THREADS", "PWD"})


def _examination(name: str, test: str) -> dict[str, Any]:
    checks = {"imports": [], "reference": "", "names": [name], "setup": "", "base": [test], "plus": None}
    return {"kind": "checks", **checks}


def _around(folder: Path) -> list[str]:
    """What lies in the folder, but for the root, whose folders have their namesakes inside."""
    if folder == Path(folder.anchor):
        return []
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))[:_SHOWN]]  # noqa: PTH118, PTH208 - plain text goes in
    except OSError:
        return []


@contextmanager
def _listening() -> Iterator[int]:
    """A port of this machine at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])
