"""Where states are kept, over what is asked, sizes and room."""

from __future__ import annotations

import pytest

from cpd_engine.config import CacheMode
from cpd_engine.states.choice import Choice, Room, choose

ROOMY = Room(disk_bytes=100, memory_bytes=100)


def _choose(
    asked: CacheMode,
    *,
    size: int = 50,
    passes: float = 10.0,
    cached: bool = False,
    top_k: bool = False,
    room: Room = ROOMY,
) -> Choice:
    return choose(asked, size_bytes=size, passes=passes, cached=cached, approximate=top_k, room=room)


@pytest.mark.parametrize(
    ("asked", "room", "kept", "fell_back"),
    [
        ("auto", ROOMY, "disk", False),
        ("auto", Room(disk_bytes=10, memory_bytes=100), "memory", False),
        ("auto", Room(disk_bytes=None, memory_bytes=100), "memory", False),
        ("auto", Room(disk_bytes=10, memory_bytes=10), "off", True),
        ("disk", ROOMY, "disk", False),
        ("disk", Room(disk_bytes=10, memory_bytes=100), "memory", True),
        ("disk", Room(disk_bytes=10, memory_bytes=10), "off", True),
        ("memory", ROOMY, "memory", False),
        ("memory", Room(disk_bytes=100, memory_bytes=10), "off", True),
        ("off", ROOMY, "off", False),
    ],
)
def test_states_go_where_was_asked_or_where_there_is_room(
    asked: CacheMode, room: Room, kept: str, fell_back: bool
) -> None:
    found = _choose(asked, room=room)
    assert (found.kept, found.fell_back) == (kept, fell_back)


def test_auto_keeps_nothing_where_a_sample_meets_the_teacher_about_once() -> None:
    assert _choose("auto", passes=1.4).kept == "off"
    assert _choose("auto", passes=1.5).kept == "disk"
    assert _choose("disk", passes=1.0).kept == "disk"


def test_what_another_job_left_is_used_however_few_the_passes_and_however_little_room_is_left() -> None:
    full = Room(disk_bytes=0, memory_bytes=0)
    for asked in ("auto", "disk"):
        assert _choose(asked, passes=1.0, cached=True, room=full).kept == "disk"
    assert _choose("off", cached=True).kept == "off"


def test_an_approximation_that_was_asked_for_does_not_depend_on_the_number_of_passes() -> None:
    assert _choose("auto", passes=1.0, top_k=True).kept == "disk"


def test_a_job_that_never_asks_its_teacher_keeps_nothing() -> None:
    assert _choose("disk", passes=0.0).kept == "off"
