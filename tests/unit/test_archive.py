"""A tar that is made while it is sent."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from api.core.archive import Archive, ArchiveTruncated, Member, sha256_of

FILES = {
    "model.safetensors": bytes(range(256)) * 40,
    "config.json": b"{}",
    "empty": b"",
    "exactly/one/block": b"x" * 512,
    f"long/{'n' * 90}/{'m' * 90}.json": b"long",
    "ünïcode.txt": b"u",
}


def member(path: str, content: bytes) -> Member:
    def read(start: int, stop: int) -> Iterator[bytes]:
        for at in range(start, stop, 100):
            yield content[at : min(at + 100, stop)]

    sha256 = hashlib.sha256(content).hexdigest()
    return Member(path=path, size_bytes=len(content), sha256=sha256, read=read)


def archive(files: dict[str, bytes]) -> Archive:
    return Archive(member(path, content) for path, content in files.items())


WHOLE = b"".join(archive(FILES).chunks())


def test_tarfile_reads_every_member_back_in_order() -> None:
    with tarfile.open(fileobj=io.BytesIO(WHOLE)) as tar:
        members = tar.getmembers()
        read = {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in members}
    assert list(read) == sorted(FILES)
    assert read == FILES
    assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in members} == {(0, 0, 0, "", 0o644)}


def test_the_length_is_known_before_the_first_read() -> None:
    assert archive(FILES).size_bytes == len(WHOLE)


def test_the_same_members_make_the_same_bytes_in_whatever_order_they_come() -> None:
    turned = archive(dict(reversed(FILES.items())))
    assert b"".join(turned.chunks()) == WHOLE
    assert turned.fingerprint == archive(FILES).fingerprint


@pytest.mark.parametrize("changed", [{"config.json": b"[]"}, {"config.json": b"{ }"}, {"more": b""}])
def test_other_bytes_have_another_fingerprint(changed: dict[str, bytes]) -> None:
    assert archive(FILES | changed).fingerprint != archive(FILES).fingerprint


@given(some.integers(0, len(WHOLE) + 10), some.integers(0, len(WHOLE) + 10))
def test_any_range_is_the_slice_of_the_whole(start: int, stop: int) -> None:
    assert b"".join(archive(FILES).chunks(start, stop)) == WHOLE[start:stop]


def test_only_the_members_in_the_range_are_read() -> None:
    def refuse(start: int, stop: int) -> Iterator[bytes]:
        raise AssertionError("read outside of the range")

    unread = Member(path="z", size_bytes=10**12, sha256="0" * 64, read=refuse)
    wide = Archive([member("a", b"abc"), unread])
    # More than the 8 GiB that a plain ustar header can say.
    assert wide.size_bytes > 10**12
    assert b"".join(wide.chunks(512, 515)) == b"abc"
    assert b"".join(wide.chunks(wide.size_bytes - 4)) == bytes(4)


def test_a_member_that_shrank_breaks_the_download_off() -> None:
    shrunk = Member(path="a", size_bytes=10, sha256="0" * 64, read=member("a", b"abc").read)
    with pytest.raises(ArchiveTruncated):
        list(Archive([shrunk]).chunks())


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(WHOLE)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(WHOLE).hexdigest()
