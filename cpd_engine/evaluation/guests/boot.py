"""The first code that runs inside a sandbox: takes its job from stdin, limits itself, and leaves the work to a child.

This process is the first of its own process namespace. When it ends, the kernel ends all that still runs there, whatever it did to
stay: threads, daemons, children in sessions of their own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from types import ModuleType
from typing import Any


def main() -> None:
    """Read {"modules", "limits", "run", "job"}, and call `run` of the last module with the job, in a child; its exit code is ours."""
    with open(0, "rb", closefd=False) as stdin:
        given = json.load(stdin)
    os.write(2, b"ready\n")
    # Nothing that a program prints is read by anyone, so it costs nothing to print without end.
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name, limit in given["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    child = os.fork()
    if not child:
        _work(given)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _work(given: dict[str, Any]) -> None:
    code = 1
    try:
        sys.path.append("/packages")
        sys.set_int_max_str_digits(0)
        module = ModuleType("")
        for name, source in given["modules"].items():
            module = _load(name, source)
        module.run(given["job"])
        code = 0
    finally:
        os._exit(code)


def _load(name: str, source: str) -> ModuleType:
    """A module from its text, under its full name, with the packages above it."""
    for end in (index for index, letter in enumerate(name) if letter == "."):
        package = sys.modules.setdefault(name[:end], ModuleType(name[:end]))
        package.__path__ = []
    module = sys.modules[name] = ModuleType(name)
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)
    exec(compile(source, name, "exec"), module.__dict__)
    return module


if __name__ == "__main__":
    main()
