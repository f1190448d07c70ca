"""Files under keys: whole or absent, and never outside of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.core.storage import DirectoryStore, InvalidKey, StoredFileMissing


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def written(tmp_path: Path, content: bytes, name: str = "source") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_what_was_put_can_be_read_sized_and_fetched(store: DirectoryStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    assert store.put("jobs/j1/1/model/model.safetensors", written(tmp_path, content)) == len(content)

    assert store.size("jobs/j1/1/model/model.safetensors") == len(content)
    assert b"".join(store.read("jobs/j1/1/model/model.safetensors")) == content
    store.fetch("jobs/j1/1/model/model.safetensors", tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == content


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (3, 7), (9, None), (10, None), (12, 15), (0, 99)])
def test_any_range_can_be_read(store: DirectoryStore, tmp_path: Path, start: int, stop: int | None) -> None:
    store.put("k", written(tmp_path, b"0123456789"))
    assert b"".join(store.read("k", start, stop)) == b"0123456789"[start:stop]


def test_a_put_replaces_and_a_reader_keeps_what_it_opened(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("k", written(tmp_path, b"old"))
    reading = store.read("k")
    store.put("k", written(tmp_path, b"newer", "other"))
    assert b"".join(reading) == b"old"
    assert b"".join(store.read("k")) == b"newer"


def test_a_fetched_file_is_the_fetchers_own(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("k", written(tmp_path, b"kept"))
    store.fetch("k", tmp_path / "mine")
    (tmp_path / "mine").write_bytes(b"changed")
    assert b"".join(store.read("k")) == b"kept"


def test_deleting_takes_a_file_or_everything_under_a_prefix_and_no_more(store: DirectoryStore, tmp_path: Path) -> None:
    source = written(tmp_path, b"x")
    for key in ("jobs/a/1/f", "jobs/a/2/f", "jobs/ab/1/f", "datasets/d"):
        store.put(key, source)

    assert [store.delete("jobs/a"), store.delete("datasets/d"), store.delete("jobs/a")] == [2, 1, 0]

    assert store.size("jobs/ab/1/f") == 1
    for key in ("jobs/a/1/f", "datasets/d"):
        with pytest.raises(StoredFileMissing):
            store.size(key)


def test_a_missing_file_says_so_before_the_first_byte(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("folder/file", written(tmp_path, b"x"))
    for key in ("none", "folder", "folder/file/below"):
        with pytest.raises(StoredFileMissing):
            store.read(key)
        with pytest.raises(StoredFileMissing):
            store.fetch(key, tmp_path / "t")


def test_nothing_half_written_is_left_where_the_source_is_missing(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put("a/b", tmp_path / "none")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.b", "-x", "a\0b", "a\n", "ä", "a b", "a\\b"],
)
def test_keys_that_could_lead_elsewhere_are_refused(store: DirectoryStore, tmp_path: Path, key: str) -> None:
    source = written(tmp_path, b"x")
    for act in (store.size, store.read, store.delete, lambda k: store.put(k, source), lambda k: store.fetch(k, source)):
        with pytest.raises(InvalidKey):
            act(key)
