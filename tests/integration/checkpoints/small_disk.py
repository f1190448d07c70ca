"""A disk of a few hundred kB, to be filled: a tmpfs of its own, where this process may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_FILLER = "filler"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A file system of its own at `path`."""

    path: Path

    def fill(self, *, but: int = 0) -> None:
        """Leave `but` bytes, in whole pages."""
        free = shutil.disk_usage(self.path).free
        with (self.path / _FILLER).open("wb") as file:
            file.write(bytes(max(0, free - but)))

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.path / _FILLER).unlink()

    def resize(self, size_bytes: int) -> None:
        """Another size, with what lies on it."""
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A tmpfs of `size_bytes` at `path` until the block ends; skips the test where none may be mounted."""
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs wants root: run the tests as root, in a namespace of its own if need be")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small tmpfs can be mounted here (CAP_SYS_ADMIN): {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path=path)
    finally:
        # Lazily: what still holds a file there, a killed engine perhaps, is not waited for.
        subprocess.run(["umount", "--lazy", str(path)], check=True)
