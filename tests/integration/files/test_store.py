"""Files under keys, in a folder and in a bucket: whole or absent, what they were said to be, and never outside of the store."""

from __future__ import annotations

import hashlib
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from api.core.directory import DirectoryStore
from api.core.storage import ContentDiffers, InvalidKey, Store, StoredFileMissing, StoreUnavailable

# More than two parts of an upload, and than two ranges of a download.
LARGE = bytes(range(251)) * 45_000


def put(store: Store, key: str, content: bytes, tmp_path: Path) -> int:
    source = tmp_path / "source"
    source.write_bytes(content)
    try:
        return store.put(key, source, sha256=sha256(content))
    finally:
        source.unlink()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_was_put_can_be_read_sized_and_fetched(store: Store, tmp_path: Path) -> None:
    for name, content in {"empty": b"", "little": b"little", "large": LARGE}.items():
        key = f"jobs/j1/1/model/{name}.safetensors"

        assert put(store, key, content, tmp_path) == len(content)
        assert store.size(key) == len(content)
        assert b"".join(store.read(key)) == content
        store.fetch(key, tmp_path / "deep" / name, sha256=sha256(content))
        assert (tmp_path / "deep" / name).read_bytes() == content


def test_any_range_can_be_read(store: Store, tmp_path: Path) -> None:
    put(store, "k", b"0123456789", tmp_path)
    for start, stop in ((0, 0), (0, 1), (3, 7), (9, None), (10, None), (12, 15), (0, 99)):
        assert b"".join(store.read("k", start, stop)) == b"0123456789"[start:stop]


def test_a_range_of_a_large_file_is_just_those_bytes(store: Store, tmp_path: Path) -> None:
    put(store, "k", LARGE, tmp_path)
    for start, stop in ((0, 4 * 2**20), (4 * 2**20 - 1, 4 * 2**20 + 1), (5, 9_000_000), (len(LARGE) - 3, None)):
        assert b"".join(store.read("k", start, stop)) == LARGE[start:stop]


def test_a_reader_that_stops_early_leaves_nothing_open(store: Store, tmp_path: Path) -> None:
    put(store, "k", LARGE, tmp_path)
    reading = iter(store.read("k"))
    first = next(reading)
    del reading

    assert LARGE.startswith(first)
    assert b"".join(store.read("k", 0, 3)) == LARGE[:3]


def test_a_put_replaces(store: Store, tmp_path: Path) -> None:
    put(store, "k", b"old", tmp_path)
    put(store, "k", b"newer", tmp_path)
    assert b"".join(store.read("k")) == b"newer"


def test_a_fetched_file_is_the_fetcher_s_own(store: Store, tmp_path: Path) -> None:
    put(store, "k", b"kept", tmp_path)
    store.fetch("k", tmp_path / "mine", sha256=sha256(b"kept"))
    (tmp_path / "mine").write_bytes(b"changed")
    assert b"".join(store.read("k")) == b"kept"


@pytest.mark.parametrize("content", [b"little", LARGE], ids=["little", "large"])
def test_a_file_that_is_not_what_it_was_said_to_be_is_not_kept(store: Store, tmp_path: Path, content: bytes) -> None:
    put(store, "k/kept", content, tmp_path)
    source = tmp_path / "other"
    source.write_bytes(content + b"!")
    for key in ("k/kept", "k/new"):
        with pytest.raises(ContentDiffers):
            store.put(key, source, sha256=sha256(content))

    assert b"".join(store.read("k/kept")) == content
    with pytest.raises(StoredFileMissing):
        store.size("k/new")


def test_a_fetched_file_that_is_not_what_it_was_is_told(store: Store, tmp_path: Path) -> None:
    put(store, "k", LARGE, tmp_path)
    with pytest.raises(ContentDiffers):
        store.fetch("k", tmp_path / "copy", sha256=sha256(b"other"))


def test_deleting_takes_a_file_or_everything_under_a_prefix_and_no_more(store: Store, tmp_path: Path) -> None:
    for key in ("jobs/a/1/f", "jobs/a/2/f", "jobs/ab/1/f", "datasets/d", "datasets/d2"):
        put(store, key, b"x", tmp_path)

    assert [store.delete("jobs/a"), store.delete("datasets/d"), store.delete("jobs/a")] == [2, 1, 0]

    assert (store.size("jobs/ab/1/f"), store.size("datasets/d2")) == (1, 1)
    for key in ("jobs/a/1/f", "datasets/d"):
        with pytest.raises(StoredFileMissing):
            store.size(key)


def test_a_missing_file_says_so_before_the_first_byte(store: Store, tmp_path: Path) -> None:
    put(store, "folder/file", b"x", tmp_path)
    for key in ("none", "folder", "folder/file/below"):
        for start, stop in ((0, None), (0, 0), (5, 9)):
            with pytest.raises(StoredFileMissing):
                store.read(key, start, stop)
        with pytest.raises(StoredFileMissing):
            store.fetch(key, tmp_path / "t", sha256=sha256(b"x"))


def test_nothing_is_kept_where_the_source_is_missing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put("a/b", tmp_path / "none", sha256=sha256(b""))
    assert store.delete("a") == 0


ELSEWHERE = (
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "a/",
    ".hidden",
    "a/.b",
    "-x",
    "a\0b",
    "a\n",
    "ä",
    "a b",
    "a\\b",
)


def test_keys_that_could_lead_elsewhere_are_refused(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    acts = (
        store.size,
        store.read,
        store.delete,
        lambda k: store.put(k, source, sha256=sha256(b"x")),
        lambda k: store.fetch(k, source, sha256=sha256(b"x")),
    )
    for act, key in product(acts, ELSEWHERE):
        with pytest.raises(InvalidKey):
            act(key)


def test_a_store_that_works_is_not_complained_about_and_keeps_nothing_of_the_look(store: Store) -> None:
    store.check()
    assert store.sweep(0.0) == 0


def test_what_lies_in_a_folder_whose_volume_is_gone_or_broken_is_not_said_to_be_missing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = DirectoryStore(root)
    store.check()
    store.look()
    # As a disk does that gives no data, the system refuses to follow it.
    (root / "broken").symlink_to("broken")
    with pytest.raises(StoreUnavailable, match="cannot read in"):
        store.size("broken")
    root.rename(tmp_path / "unmounted")
    for mount_point in (False, True):
        if mount_point:
            root.mkdir()
        for ask in (store.look, partial(store.size, "k"), partial(store.read, "k")):
            with pytest.raises(StoreUnavailable, match="is its volume mounted"):
                ask()
