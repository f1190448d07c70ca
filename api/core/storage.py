"""Where artifacts and data sets lie: one protocol, which a folder (`directory.py`) and a bucket of S3's (`bucket.py`) keep."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,15}}")


class InvalidKey(ValueError):
    """Not a key: segments of letters, digits, '.', '_', '-' that begin with none of the last two and no dot, joined by '/'."""


class StoredFileMissing(Exception):
    """No file lies under this key."""


class ContentDiffers(Exception):
    """A file does not have the sha256 that it is said to have."""


class StoreUnavailable(OSError):
    """The store does not answer, or refuses to: the message tells people why. What it has taken stands; asking again is fine."""


class Files(Protocol):
    """Files under keys such as `jobs/<job>/<fence>/<name>/model.safetensors`. A file is whole or absent, and never changes.

    Every call raises StoreUnavailable where the store is away, and InvalidKey.
    """

    def put(self, key: str, source: Path, *, sha256: str) -> int:
        """Keep a copy of `source`, durable on return; replaces what lay under `key`. Returns its bytes.

        What is kept has this sha256, or nothing is: raises ContentDiffers.
        """
        ...

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        """Copy a file to `target`, which its owner may then change. Raises StoredFileMissing and ContentDiffers."""
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


class Store(Files, Protocol):
    """Where the files of the whole service lie, as whoever opens it has it."""

    def sweep(self, older_than_s: float) -> int:
        """Remove what uploads have left that never came to their end, of processes that were killed; returns how many."""
        ...

    def link(self, key: str, *, filename: str, media_type: str) -> str | None:
        """An address at which whoever has it can download the file, under this name, for a short time; None where none are given."""
        ...

    def look(self) -> None:
        """See within seconds that the store is there, and change nothing. Raises StoreUnavailable."""
        ...

    def check(self) -> None:
        """See that files can be kept and removed here, and make ready for them. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Let go of connections. The store is not used afterwards."""
        ...


def checked(key: str) -> str:
    """`key` itself. Raises InvalidKey."""
    if _KEY.fullmatch(key) is None:
        raise InvalidKey("a storage key is made of plain names joined by '/'")
    return key


def discard(files: Files, prefix: str) -> None:
    """Remove what no row names any more. Where that fails the files are waste, and nobody's trouble but the log's."""
    try:
        files.delete(prefix)
    except OSError as error:
        log.warning("leftover_in_store", prefix=prefix, error=type(error).__name__)


def copy_verified(chunks: Iterator[bytes], target: Path, key: str, sha256: str) -> None:
    """Write what comes to `target`. Raises ContentDiffers where it is not what it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise ContentDiffers(key)
