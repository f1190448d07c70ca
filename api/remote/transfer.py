"""Large files: checked uploads, and downloads that resume, are verified file by file and appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from api.remote.answers import Checkpoint
from api.remote.transport import BROKEN, Transport
from api.remote.trouble import BadInput, Damaged, Refused, Trouble

CHUNK = 1 << 20
# Told as bytes go: (bytes so far, bytes in all or None).
OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A checkpoint on disk, every file of it verified."""

    directory: Path
    checkpoint: Checkpoint
    files: int


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file as a request body that can be sent more than once; read piece by piece, so that its size does not matter to memory."""

    path: Path
    on_bytes: OnBytes | None = None

    def __iter__(self) -> Iterator[bytes]:
        size = self.path.stat().st_size
        done = 0
        with self.path.open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece
                done += len(piece)
                if self.on_bytes is not None:
                    self.on_bytes(done, size)


def fetch(transport: Transport, path: str, target: Path, *, on_bytes: OnBytes | None = None) -> None:
    """Download `path` into the file `target`, taking up what an earlier try left in it if the service still has the same bytes.

    The ETag that a partial file belongs to is kept beside it. Raises ServerUnreachable when `patience` runs out without a new byte.
    """
    label = target.with_name(target.name + ".etag")
    failures = 0
    while True:
        have = target.stat().st_size if target.exists() and label.exists() else 0
        try:
            _fetch_rest(transport, path, target, label, on_bytes)
        except (*BROKEN, httpx.ReadTimeout) as error:
            grown = target.exists() and target.stat().st_size > have
            failures = 1 if grown else failures + 1
            if failures >= transport.patience.attempts:
                raise transport.unreachable(error) from error
            transport.patience.wait(failures)
        except Refused as refused:
            if refused.status != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            target.unlink()
        else:
            label.unlink(missing_ok=True)
            return


def _fetch_rest(transport: Transport, path: str, target: Path, label: Path, on_bytes: OnBytes | None) -> None:
    have = target.stat().st_size if target.exists() and label.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": label.read_text()}
    with transport.stream("GET", path, headers=headers) as response:
        resumed = have > 0 and response.status_code == httpx.codes.PARTIAL_CONTENT
        done = have if resumed else 0
        length = response.headers.get("content-length")
        whole = done + int(length) if length else None
        if etag := response.headers.get("etag"):
            label.write_text(etag)
        with target.open("ab" if resumed else "wb") as file:
            for piece in response.iter_bytes():
                # Unbuffered pieces: what came before a break is what the next try need not ask for.
                file.write(piece)
                done += len(piece)
                if on_bytes is not None:
                    on_bytes(done, whole)
            file.flush()
            os.fsync(file.fileno())


def unpack(archive: Path, checkpoint: Checkpoint, target: Path, *, whole: bool) -> int:
    """Turn a downloaded tar into the directory `target`, after every file in it has been found to be the one that was sealed.

    `whole` asks that no sealed file is missing. Returns the number of files. Raises Damaged on any difference; `target` then does
    not come to be.
    """
    staging = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            tar.extractall(staging, filter="data")
        count = verify(staging, checkpoint, whole=whole)
        staging.replace(target)
    except tarfile.TarError as error:
        raise Damaged(f"{archive.name} is not a sound archive ({error}): download it again") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return count


def verify(directory: Path, checkpoint: Checkpoint, *, whole: bool) -> int:
    """Compare every file under `directory` with the sealed list; returns how many there are. Raises Damaged."""
    sealed = {file.path: file for file in checkpoint.files}
    found = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    names = {path.relative_to(directory).as_posix(): path for path in found}
    missing = sorted(sealed.keys() - names.keys()) if whole else []
    if missing or not found:
        raise Damaged(f"{missing[0] if missing else 'every file'} is missing from the archive: download it again")
    for name, path in names.items():
        if name not in sealed:
            raise Damaged(f"{name} is not among the sealed files of {checkpoint.name}: do not use this download")
        if sha256_of(path) != sealed[name].sha256:
            raise Damaged(f"{name} does not have the sha256 it was sealed with: download it again")
    return len(found)


def free_directory(target: Path) -> Path:
    """`target`, if a directory can come to be there. Raises BadInput where something is in the way."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target} exists and is not empty: choose another folder with --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
    except OSError as error:
        raise Trouble(f"cannot write to {target} ({error.strerror}): choose another folder with --out") from error
    return target
