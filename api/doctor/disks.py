"""Whether files can be kept where they are to be kept, and whether there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from api.core.settings import Settings
from api.core.storage import DirectoryStore, Store
from api.doctor.findings import Finding, broken, doubtful, well
from api.quantities import size

# Below the first the next checkpoint of a small model may not fit, below the second that of an ordinary one.
FAILING_BYTES = 2**30
SCARCE_BYTES = 20 * 2**30
_CONTENT = b"written by cpd doctor, to be read back\n"


def examined(settings: Settings) -> Iterator[Finding]:
    """The store by writing and reading a file in it; scratch space and the cache of states by their folders."""
    yield from _store(DirectoryStore(settings.store_dir), settings)
    yield from _folder("scratch", settings.scratch_dir, "CPD_SCRATCH_DIR")
    yield from _folder("teachers' states", settings.state_cache_dir, "CPD_STATE_CACHE_DIR")
    yield from _first_key(settings)


def _store(store: Store, settings: Settings) -> Iterator[Finding]:
    name = f"doctor/{uuid4().hex}"
    source = _existing(settings.data_dir) / f".doctor-{uuid4().hex}"
    remedy = (
        "api and workers must be able to write in CPD_DATA_DIR/store, the same for all: mend its owner, mount or room"
    )
    try:
        try:
            source.write_bytes(_CONTENT)
            store.put(name, source)
            whole = b"".join(store.read(name)) == _CONTENT
        finally:
            source.unlink(missing_ok=True)
            store.delete("doctor")
    except OSError as error:
        yield broken("store", f"{settings.store_dir}: {error.strerror or error}", remedy)
        return
    if not whole:
        yield broken("store", f"{settings.store_dir} gives back something else than was written", "look at the disk")
        return
    yield well("store", f"writes, syncs and reads in {settings.store_dir}")
    yield _room("store", settings.store_dir)


def _folder(check: str, folder: Path, variable: str) -> Iterator[Finding]:
    nearest = _existing(folder)
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield broken(check, f"{nearest} cannot be written", f"mend its owner, or set {variable}")
        return
    yield _room(check, folder)


def _room(check: str, folder: Path) -> Finding:
    disk = shutil.disk_usage(_existing(folder))
    return room(check, folder, free_bytes=disk.free, total_bytes=disk.total)


def room(check: str, folder: Path, *, free_bytes: int, total_bytes: int) -> Finding:
    """Whether what is left of the folder's disk is enough to go on with."""
    said = f"{size(free_bytes)} of {size(total_bytes)} free at {folder}"
    remedy = "free some: `cpd estimate` tells what a job needs, docs/operations.md what may be removed"
    if free_bytes < FAILING_BYTES:
        return broken(check, said, remedy)
    return doubtful(check, said, remedy) if free_bytes < SCARCE_BYTES else well(check, said)


def _first_key(settings: Settings) -> Iterator[Finding]:
    if settings.key_file.exists() and settings.key_file.stat().st_mode & 0o077:
        yield doubtful(
            "first key",
            f"others may read {settings.key_file}",
            f"chmod 600 {settings.key_file}, or revoke it: `cpd keys list`",
        )


def _existing(folder: Path) -> Path:
    """The folder, or what is to hold it."""
    return next(path for path in (folder, *folder.parents) if path.exists())
