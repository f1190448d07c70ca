"""One set of kept states on the disk: a directory that is filled block by block and sealed at its end, or not believed.

    made.json         what is kept here, for people and for whoever goes on with it
    head.safetensors  the teacher's output head, so that nothing else of the teacher is ever loaded again; head.json its scale and cap
    states.bin        [tokens, width] raw, in the order of the layout; reserved whole before anything is computed
    journal.jsonl     a line per block: packs done, bytes, crc32; written after the block itself has reached the disk
    sealed.json       the whole set's blocks and the head's sha256; its being there is what makes the set whole

Locks are its owner's business (`folder`). States are mapped, not read: the system keeps in memory what is used.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cpd_engine import checkpoint
from cpd_engine.errors import CheckpointCorrupt

STATES = "states.bin"
_MADE, _JOURNAL, _SEAL = "made.json", "journal.jsonl", "sealed.json"
_HEAD = ("head.safetensors", "head.json")
# A block ends after so many bytes or seconds: what a kill costs at most, and what a full disk's worth of syncing is spread over.
_BLOCK_BYTES = 64 << 20
_BLOCK_S = 10.0
_READ_BYTES = 4 << 20
# A file system that reserves nothing answers with one of these.
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """`tokens` rows of `width` numbers of `dtype`; `layout` names the order they come in."""

    tokens: int
    width: int
    dtype: torch.dtype
    layout: str

    @property
    def row_bytes(self) -> int:
        """Of one token."""
        return self.width * self.dtype.itemsize

    @property
    def size_bytes(self) -> int:
        """Of states.bin."""
        return self.tokens * self.row_bytes

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {"tokens": self.tokens, "width": self.width, "dtype": str(self.dtype), "layout": self.layout}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Bytes up to `end` hold the states of the first `packs` packs; the checksum is that of the bytes since the block before."""

    packs: int
    end: int
    crc32: int


def packs_done(path: Path) -> int:
    """Packs that the filler of this directory has told of, for whoever waits for it."""
    return max((block.packs for block in _journal(path)), default=0)


def is_sealed(path: Path) -> bool:
    """Whether the set is whole, as far as its seal says."""
    return (path / _SEAL).is_file()


def unseal(path: Path) -> None:
    """Take a damaged set's word back. Its blocks are then believed as far as their checksums go, as after a kill."""
    (path / _SEAL).unlink(missing_ok=True)


def verify(path: Path, form: Form, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Check a sealed set byte by byte. `on_progress(bytes, of)` may raise. Raises CheckpointCorrupt."""
    try:
        seal = checkpoint.read_json(path / _SEAL)
        blocks = [Block(**block) for block in seal["blocks"]]
        heads = [asdict(checkpoint.hash_file(path, name)) for name in _HEAD]
        size = (path / STATES).stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointCorrupt(f"kept states {path.name} cannot be read: {type(error).__name__}") from error
    if seal["form"] != form.told() or seal["heads"] != heads or size != form.size_bytes:
        raise CheckpointCorrupt(f"kept states {path.name} differ from their seal")
    if (blocks[-1].end if blocks else 0) != form.size_bytes or sum(1 for _ in _sound(path, blocks, on_progress)) < len(
        blocks
    ):
        raise CheckpointCorrupt(f"kept states {path.name} differ from their checksums")


def mapped(path: Path, form: Form) -> Tensor:
    """The states [tokens, width] of a verified set, mapped privately: what is read is paged in, nothing is written back."""
    flat = torch.from_file(str(path / STATES), shared=False, size=form.tokens * form.width, dtype=form.dtype)
    return flat.view(form.tokens, form.width)


def _journal(path: Path) -> list[Block]:
    """Whole lines; one cut short by a kill, and what follows it, is as good as not written."""
    blocks: list[Block] = []
    if not (path / _JOURNAL).is_file():
        return blocks
    for line in (path / _JOURNAL).read_bytes().split(b"\n")[:-1]:
        try:
            blocks.append(Block(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return blocks


def _sound(path: Path, blocks: list[Block], on_progress: Callable[[int, int], None] | None = None) -> Iterator[Block]:
    """The blocks from the first on whose bytes are what their checksums say, up to the first that is not."""
    with (path / STATES).open("rb") as file:
        start = 0
        for block in blocks:
            crc = 0
            for left in range(block.end - start, 0, -_READ_BYTES):
                crc = zlib.crc32(file.read(min(left, _READ_BYTES)), crc)
            if crc != block.crc32:
                return
            start = block.end
            if on_progress is not None:
                on_progress(start, blocks[-1].end)
            yield block


class Filling:
    """A set being filled by the one process that holds its lock exclusively. Goes on after the last block that is sound."""

    def __init__(self, path: Path, form: Form, *, told: dict[str, Any], clock: Callable[[], float]) -> None:
        self._path, self._form, self._clock = path, form, clock
        path.mkdir(parents=True, exist_ok=True)
        made = json.loads(json.dumps({"form": form.told(), **told}))
        if not self._continues(made):
            for file in path.iterdir():
                file.unlink()
            checkpoint.write_json_atomically(path / _MADE, made)
        self._states: BinaryIO = (path / STATES).open("r+b" if (path / STATES).exists() else "x+b")
        try:
            _reserve(self._states.fileno(), form.size_bytes)
        except OSError:
            self._states.close()
            raise
        self._blocks = list(_sound(path, _journal(path)))
        (path / _JOURNAL).write_text("".join(_line(block) for block in self._blocks))
        self._packs = self._blocks[-1].packs if self._blocks else 0
        self._end = self._blocks[-1].end if self._blocks else 0
        self._states.seek(self._end)
        self._crc, self._since = 0, clock()

    @property
    def packs(self) -> int:
        """Packs whose states are on the disk."""
        return self._packs

    def put_head(self, write: Callable[[Path], None]) -> None:
        """Let `write` put the head's files into the directory."""
        write(self._path)
        for name in _HEAD:
            checkpoint.sync(self._path / name)

    def put(self, rows: Tensor, packs: int) -> None:
        """Append states [n, width] of the form's dtype, on the CPU; with them the first `packs` packs are done."""
        content = rows.contiguous().view(torch.uint8).numpy().tobytes()
        self._states.write(content)
        self._crc = zlib.crc32(content, self._crc)
        self._end += len(content)
        self._packs = packs
        started = self._blocks[-1].end if self._blocks else 0
        if self._end - started >= _BLOCK_BYTES or self._clock() - self._since >= _BLOCK_S:
            self._close_block()

    def seal(self) -> None:
        """Declare the set whole."""
        self._close_block()
        if self._end != self._form.size_bytes:
            raise ValueError(f"{self._end} bytes of states were put where {self._form.size_bytes} belong")
        self.close()
        checkpoint.write_json_atomically(
            self._path / _SEAL,
            {
                "form": self._form.told(),
                "heads": [asdict(checkpoint.hash_file(self._path, name)) for name in _HEAD],
                "blocks": [asdict(block) for block in self._blocks],
            },
        )

    def close(self) -> None:
        """Let go of the file. What no block tells of is done again by whoever goes on."""
        self._states.close()

    def _continues(self, made: dict[str, Any]) -> bool:
        """Whether what lies here, unsealed, is the beginning of the same set."""
        try:
            return not is_sealed(self._path) and bool(checkpoint.read_json(self._path / _MADE) == made)
        except (OSError, ValueError):
            return False

    def _close_block(self) -> None:
        if self._blocks and self._end == self._blocks[-1].end:
            return
        self._states.flush()
        os.fsync(self._states.fileno())
        self._blocks.append(Block(packs=self._packs, end=self._end, crc32=self._crc))
        with (self._path / _JOURNAL).open("a") as journal:
            journal.write(_line(self._blocks[-1]))
            journal.flush()
            os.fsync(journal.fileno())
        self._crc, self._since = 0, self._clock()


def _line(block: Block) -> str:
    return json.dumps(asdict(block)) + "\n"


def _reserve(descriptor: int, size: int) -> None:
    """Take the whole size from the disk now, so that one that is too full says so before hours are spent."""
    if size == 0:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
        os.ftruncate(descriptor, size)
