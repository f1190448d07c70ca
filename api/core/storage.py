"""Where artifacts and data sets lie. One protocol, so that an object store can take the folder's place."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,15}}")
_CHUNK = 1 << 20


class InvalidKey(ValueError):
    """Not a key: segments of letters, digits, '.', '_', '-' that begin with none of the last two and no dot, joined by '/'."""


class StoredFileMissing(Exception):
    """No file lies under this key."""


class Store(Protocol):
    """Files under keys such as `jobs/<job>/<fence>/<name>/model.safetensors`. A file is whole or absent, and never changes."""

    def put(self, key: str, source: Path) -> int:
        """Keep a copy of `source`, durable on return; replaces what lay under `key`. Returns its bytes."""
        ...

    def fetch(self, key: str, target: Path) -> None:
        """Copy a file to `target`, which its owner may then change. Raises StoredFileMissing."""
        ...

    def size(self, key: str) -> int:
        """Bytes of a file. Raises StoredFileMissing."""
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes [start, stop) in chunks. Raises StoredFileMissing, before the first chunk."""
        ...

    def delete(self, prefix: str) -> int:
        """Remove the file at `prefix` and all files under `prefix/`; returns how many. Removing nothing is fine."""
        ...


def checked(key: str) -> str:
    """`key` itself. Raises InvalidKey."""
    if _KEY.fullmatch(key) is None:
        raise InvalidKey("a storage key is made of plain names joined by '/'")
    return key


class DirectoryStore:
    """A Store in a local directory. Files come in by rename after fsync, as hard links where the file system allows."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, source: Path) -> int:
        target = self._root / checked(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid4().hex}"
        try:
            _link_or_copy(source, temporary)
            size = temporary.stat().st_size
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_up_to(target.parent, self._root)
        return size

    def fetch(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._open(key):  # a missing file is told from a missing folder of the target
            shutil.copyfile(self._root / key, target)

    def size(self, key: str) -> int:
        with self._open(key) as file:
            return os.fstat(file.fileno()).st_size

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return _chunks(self._open(key), start, stop)

    def delete(self, prefix: str) -> int:
        path = self._root / checked(prefix)
        if path.is_dir():
            count = sum(1 for file in path.rglob("*") if file.is_file())
            shutil.rmtree(path)
            return count
        existed = path.exists()
        path.unlink(missing_ok=True)
        return int(existed)

    def _open(self, key: str) -> BinaryIO:
        try:
            return (self._root / checked(key)).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise StoredFileMissing(key) from error


def _chunks(file: BinaryIO, start: int, stop: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = None if stop is None else stop - start
        while left is None or left > 0:
            chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk


def _link_or_copy(source: Path, target: Path) -> None:
    """The store and a sealed directory may share bytes, for neither is ever written in place."""
    try:
        target.hardlink_to(source)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _sync_up_to(folder: Path, root: Path) -> None:
    """Make renames and new folders durable from `folder` up to `root`."""
    for path in (folder, *folder.parents):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == root:
            return
