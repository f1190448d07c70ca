"""Whether files can be kept where they are to be kept, and whether there is room."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from api.core.settings import Settings
from api.core.storage import ContentDiffers, Store, StoredFileMissing, StoreUnavailable
from api.core.stores import open_store
from api.doctor.findings import Finding, broken, doubtful, well
from api.quantities import size

# Below the first the next checkpoint of a small model may not fit, below the second that of an ordinary one.
FAILING_BYTES = 2**30
SCARCE_BYTES = 20 * 2**30
_CONTENT = b"written by cpd doctor, to be read back\n"


def examined(settings: Settings) -> Iterator[Finding]:
    """The store, folder or bucket, by writing and reading a file in it; scratch space and the cache of states by their folders."""
    yield from _store(settings)
    yield from _folder("scratch", settings.scratch_dir, "CPD_SCRATCH_DIR")
    yield from _folder("teachers' states", settings.state_cache_dir, "CPD_STATE_CACHE_DIR")
    yield from _first_key(settings)


def _store(settings: Settings) -> Iterator[Finding]:
    where = settings.store_url or settings.store_dir
    remedy = (
        "api and workers must be able to write in CPD_DATA_DIR/store, the same for all: mend its owner, mount or room"
    )
    if settings.store_url is None and not settings.store_dir.exists():
        # Made by us it would be ours, and readable as our umask has it.
        yield doubtful(
            "store", f"there is no folder {where}", "where there should be one, mount it; else the start makes it"
        )
        return
    try:
        with closing(open_store(settings)) as store:
            whole = _gives_back(store)
    except StoreUnavailable as error:
        reason, _, todo = str(error).partition(": ")
        yield broken("store", reason, todo or "look at what keeps it, and at CPD_STORE_URL")
        return
    except OSError as error:
        yield broken("store", f"{where}: {error.strerror or error}", remedy)
        return
    if not whole:
        yield broken("store", f"{where} gives back something else than was written", "look at what keeps it")
        return
    yield well("store", f"writes, syncs and reads in {where}")
    if settings.store_url is None:
        yield _room("store", settings.store_dir)


def _gives_back(store: Store) -> bool:
    """Whether a file that is written is read as it was. Raises OSError."""
    # Its own: another machine's doctor may be at the same store.
    name = f"doctor-{uuid4().hex}"
    with TemporaryDirectory() as folder:
        source = Path(folder) / name
        source.write_bytes(_CONTENT)
        try:
            store.put(name, source, sha256=hashlib.sha256(_CONTENT).hexdigest())
            return b"".join(store.read(name)) == _CONTENT
        except (StoredFileMissing, ContentDiffers):
            return False
        finally:
            store.delete(name)


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
    embedded = settings.database_url.startswith("sqlite")
    if embedded and settings.data_dir.exists() and settings.data_dir.stat().st_mode & 0o077:
        yield doubtful("data", f"others may look into {settings.data_dir}", f"chmod 700 {settings.data_dir}")
    if settings.key_file.exists() and settings.key_file.stat().st_mode & 0o077:
        yield doubtful(
            "first key",
            f"others may read {settings.key_file}",
            f"chmod 600 {settings.key_file}, or revoke it: `cpd keys list`",
        )


def _existing(folder: Path) -> Path:
    """The folder, or what is to hold it."""
    return next(path for path in (folder, *folder.parents) if path.exists())
