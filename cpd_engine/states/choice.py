"""Whether a teacher's states are kept, and where: a pure function of what was asked, of sizes and of room. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cpd_engine.config import CacheMode
from cpd_engine.savings import WORTHWHILE

Kept = Literal["disk", "memory", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes that states may take. `disk_bytes`: after everything that may be evicted; None: no directory shared with other jobs."""

    disk_bytes: int | None
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where states are kept, why, and whether that is less than what was asked for."""

    kept: Kept
    reason: str
    fell_back: bool = False


def choose(asked: CacheMode, *, size_bytes: int, passes: float, cached: bool, approximate: bool, room: Room) -> Choice:
    """`passes`: of the teacher's body over a sample without kept states. `cached`: they are whole on the disk already.

    `approximate` (top_k) is no matter of speed alone, so it is kept wherever there is room, however few the passes are.
    """
    told = f"{size_bytes / 1e9:.3g} GB"
    if asked == "off":
        return Choice(kept="off", reason="teacher.cache is off")
    if passes == 0:
        return Choice(kept="off", reason="no step asks the teacher")
    if cached and asked != "memory":
        return Choice(kept="disk", reason="another job on the same teacher and data left them")
    if asked == "auto" and passes < WORTHWHILE and not approximate:
        return Choice(
            kept="off", reason=f"a sample meets the teacher {passes:.2g} times: keeping its states saves nothing"
        )
    return _where(asked, told, size_bytes, room)


def _where(asked: CacheMode, told: str, size_bytes: int, room: Room) -> Choice:
    on_disk = room.disk_bytes is not None and size_bytes <= room.disk_bytes
    in_memory = size_bytes <= room.memory_bytes
    if asked == "memory" and in_memory:
        return Choice(kept="memory", reason=f"{told}, as asked")
    if asked != "memory" and on_disk:
        return Choice(kept="disk", reason=f"{told}, where other jobs find them")
    if asked == "auto" and in_memory:
        return Choice(kept="memory", reason=f"{told}; no room on the disk" if room.disk_bytes is not None else told)
    return fallen("disk" if asked == "disk" else "memory", size_bytes=size_bytes, room=room)


def fallen(wanted: Kept, *, size_bytes: int, room: Room) -> Choice:
    """What is left where the place that was wanted has no room: memory, or the teacher asked at every visit."""
    told = f"no room for {size_bytes / 1e9:.3g} GB "
    if wanted == "disk" and size_bytes <= room.memory_bytes:
        return Choice(kept="memory", reason=told + "on the disk", fell_back=True)
    return Choice(
        kept="off", reason=told + ("on the disk or in memory" if wanted == "disk" else "in memory"), fell_back=True
    )
