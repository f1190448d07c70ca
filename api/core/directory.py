"""The store in a folder of this machine, or of a file system that all of its machines share."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from api.core.storage import ContentDiffers, StoredFileMissing, StoreUnavailable, checked, copy_verified

_CHUNK = 1 << 20
# No key begins with a dot.
_ARRIVING = ".arriving"


class DirectoryStore:
    """A Store in a local directory. Files come in by rename after fsync, as hard links where the file system allows."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, source: Path, *, sha256: str) -> int:
        target = self._root / checked(key)
        temporary = self._root / _ARRIVING / uuid4().hex
        for folder in (target.parent, temporary.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            _link_or_copy(source, temporary)
            with temporary.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise ContentDiffers(key)
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_up_to(target.parent, self._root)
        return size

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        copy_verified(self.read(key), target, key, sha256)

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

    def sweep(self, older_than_s: float) -> int:
        # The time of the link, for that of the contents is the source's.
        before = time.time() - older_than_s
        gone = 0
        for path in (self._root / _ARRIVING).glob("*"):
            # What has just come to its end is not there any more.
            with suppress(FileNotFoundError):
                if path.stat().st_ctime < before:
                    path.unlink()
                    gone += 1
        return gone

    def link(self, key: str, *, filename: str, media_type: str) -> None:  # noqa: ARG002 - the protocol's
        return None

    def look(self) -> None:
        # Not at the root, which is still there, and empty, when its volume is not.
        arriving = self._root / _ARRIVING
        try:
            arriving.stat()
        except OSError as error:
            raise StoreUnavailable(f"the store has no {arriving} ({error.strerror}): is its volume mounted?") from error

    def check(self) -> None:
        probe = self._root / _ARRIVING / uuid4().hex
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreUnavailable(f"the store cannot write to {self._root} ({error.strerror})") from error

    def close(self) -> None:
        pass

    def _open(self, key: str) -> BinaryIO:
        try:
            return (self._root / checked(key)).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            self.look()
            raise StoredFileMissing(key) from error
        except OSError as error:
            raise StoreUnavailable(f"the store cannot read in {self._root} ({error.strerror})") from error


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
