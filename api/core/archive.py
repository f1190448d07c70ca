"""A tar archive that exists only while it is sent: same members, same bytes, any byte range, its length known before the first read."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512
_END = bytes(2 * _BLOCK)

Read = Callable[[int, int], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of the archive: its path there, its bytes and sha256, and how to read the bytes [start, stop) of it."""

    path: str
    size_bytes: int
    sha256: str
    read: Read


class ArchiveTruncated(Exception):
    """A member gave fewer bytes than it has: the file was removed while it was sent."""


class Archive:
    """Members sorted by path, owned by nobody, of one fixed time; POSIX pax, so that sizes and names have no limit."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members: Sequence[Member] = sorted(members, key=lambda member: member.path)
        self._headers = [_header(member) for member in self.members]
        self.size_bytes = len(_END) + sum(
            len(header) + _padded(member.size_bytes) for header, member in zip(self._headers, self.members, strict=True)
        )

    @property
    def fingerprint(self) -> str:
        """A sha256 that two archives share exactly when their bytes are the same: of every header and every member's sha256."""
        digest = hashlib.sha256()
        for header, member in zip(self._headers, self.members, strict=True):
            digest.update(header)
            digest.update(bytes.fromhex(member.sha256))
        return digest.hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The archive's bytes [start, stop). Members outside of the range are not read. Raises ArchiveTruncated."""
        stop = self.size_bytes if stop is None else min(stop, self.size_bytes)
        at = 0
        for size, read in self._pieces():
            first, last = max(start - at, 0), min(stop - at, size)
            if first < last:
                yield from _exactly(read(first, last), last - first)
            at += size

    def _pieces(self) -> Iterator[tuple[int, Read]]:
        for header, member in zip(self._headers, self.members, strict=True):
            yield len(header), _from(header)
            yield member.size_bytes, member.read
            padding = _padded(member.size_bytes) - member.size_bytes
            yield padding, _from(bytes(padding))
        yield len(_END), _from(_END)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.path)
    info.size = member.size_bytes
    info.mode = 0o644
    info.mtime = 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _from(content: bytes) -> Read:
    def read(start: int, stop: int) -> Iterator[bytes]:
        yield content[start:stop]

    return read


def _exactly(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        size -= len(chunk)
        yield chunk
    if size:
        raise ArchiveTruncated
