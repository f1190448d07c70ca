"""Style sheet, scripts and picture of the pages, and plotly's script as its installed package has it."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from api.core.errors import NotFound

_FOLDER = Path(__file__).parent / "static"
_PLOTLY = "plotly.min.js"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file as it is sent; `sha256` names its content."""

    content: bytes
    packed: bytes
    media_type: str
    sha256: str


@cache
def asset(name: str) -> Asset:
    """A file of the pages by its name, read and packed once. Raises NotFound."""
    path = _files().get(name)
    if path is None:
        raise NotFound("There is no such file.")
    content = path.read_bytes()
    return Asset(
        content=content,
        packed=gzip.compress(content, 6, mtime=0),
        media_type=_KINDS[path.suffix],
        sha256=hashlib.sha256(content).hexdigest(),
    )


def address(name: str) -> str:
    """Where a page finds a file; another content has another address, so that browsers may keep it."""
    return f"/static/{name}?v={asset(name).sha256[:16]}"


@cache
def _files() -> dict[str, Path]:
    ours = {path.name: path for path in _FOLDER.iterdir() if path.suffix in _KINDS}
    # Found without importing it: the package is wanted for one file.
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package plotly, which brings the script of the figures, is not installed")
    return ours | {_PLOTLY: Path(spec.origin).parent / "package_data" / _PLOTLY}
