"""sha256 of large files, remembered from job to job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.states.lock import acquire


class Digests:
    """Kept in `<root>/digests.json` by path, size, time of change and inode, so that a second job reads no weights to name them."""

    def __init__(self, root: Path) -> None:
        self._memory = root / "digests.json"
        self._lock = root / "digests.lock"

    def of(self, path: Path) -> str:
        """The file's sha256; of a symbolic link that of what it points to."""
        real = path.resolve()
        state = real.stat()
        mark = [state.st_size, state.st_mtime_ns, state.st_ino]
        entry = self._read().get(str(real))
        if entry is not None and entry[:3] == mark:
            return str(entry[3])
        digest = checkpoint.hash_file(real.parent, real.name).sha256
        self._remember(str(real), [*mark, digest])
        return digest

    def _read(self) -> dict[str, list[Any]]:
        try:
            return dict(checkpoint.read_json(self._memory))
        except (OSError, ValueError):
            return {}

    def _remember(self, name: str, entry: list[Any]) -> None:
        lock = acquire(self._lock, exclusive=True, wait=True)
        assert lock is not None
        try:
            standing = {known: value for known, value in self._read().items() if Path(known).exists()}
            checkpoint.write_json_atomically(self._memory, {**standing, name: entry})
        finally:
            lock.release()
