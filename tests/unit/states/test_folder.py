"""The cap on kept states, and who has to go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpd_engine import checkpoint
from cpd_engine.states.folder import RESERVE_BYTES, Folder, NoRoom
from cpd_engine.states.lock import Lock


def _folder(root: Path, limit: int = 100, free: int = 10**9) -> Folder:
    return Folder(root, limit, free=lambda _: RESERVE_BYTES + free)


def _put(folder: Folder, name: str, size: int, *, used: int) -> None:
    folder.path(name).mkdir()
    (folder.path(name) / "states.bin").write_bytes(b"\0" * size)
    os.utime(folder.path(name), ns=(used, used))


def _names(folder: Folder) -> set[str]:
    return {path.name for path in folder.root.iterdir() if path.is_dir()}


def _lock(folder: Folder, name: str, *, exclusive: bool) -> Lock:
    lock = folder.lock(name, exclusive=exclusive)
    assert lock is not None
    return lock


def test_the_least_recently_used_goes_first_and_no_more_than_must(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    for name, used in (("b", 2), ("a", 3), ("c", 1)):
        _put(folder, name, 30, used=used)
    with folder.room_for("new", 30):
        assert _names(folder) == {"a", "b"}
    assert not (tmp_path / "c.lock").exists()


def test_using_a_set_saves_it(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _put(folder, "a", 50, used=1)
    _put(folder, "b", 50, used=2)
    folder.touch("a")
    with folder.room_for("new", 50):
        assert _names(folder) == {"a"}


def test_a_set_in_use_stays_though_it_is_the_oldest(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _put(folder, "a", 50, used=1)
    _put(folder, "b", 50, used=2)
    lock = _lock(folder, "a", exclusive=False)
    with folder.room_for("new", 50):
        assert _names(folder) == {"a"}
    with pytest.raises(NoRoom, match="50 are in use of the cap of 100"), folder.room_for("newer", 60):
        pass
    lock.release()
    with folder.room_for("newer", 60):
        assert _names(folder) == set()


def test_a_set_over_the_cap_evicts_nobody(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _put(folder, "a", 50, used=1)
    with pytest.raises(NoRoom, match="over the cap"), folder.room_for("new", 101):
        pass
    assert _names(folder) == {"a"}


def test_the_disk_s_room_counts_besides_the_cap(tmp_path: Path) -> None:
    folder = _folder(tmp_path, limit=1000, free=20)
    _put(folder, "a", 50, used=1)
    assert folder.room_bytes() == 70
    with folder.room_for("new", 20):
        assert _names(folder) == {"a"}
    with pytest.raises(NoRoom), folder.room_for("new", 30):
        pass


def test_what_a_broken_fill_holds_already_is_not_asked_for_again(tmp_path: Path) -> None:
    folder = _folder(tmp_path, free=0)
    _put(folder, "half", 80, used=1)
    with folder.room_for("half", 80):
        assert _names(folder) == {"half"}


def test_the_draft_of_a_killed_maker_takes_nobody_s_room(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _put(folder, "a", 50, used=1)
    (tmp_path / ".snapshot").mkdir()
    killed = checkpoint.sealing(folder.path("b"))
    (killed.__enter__() / "columns.arrow").write_bytes(b"\0" * 70)
    (tmp_path / ".c.replaced").mkdir()
    with folder.room_for("new", 50):
        assert _names(folder) == {"a", ".snapshot"}


def test_a_lock_whose_file_was_deleted_by_an_eviction_is_not_believed(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    first = _lock(folder, "a", exclusive=True)
    assert folder.lock("a", exclusive=False) is None
    first.remove()
    second = _lock(folder, "a", exclusive=True)
    assert (tmp_path / "a.lock").exists()
    assert second.share()
    assert folder.lock("a", exclusive=True) is None
