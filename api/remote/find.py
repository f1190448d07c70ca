"""Where the service is and which key opens it, in the order in which people expect it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_DATA_DIR = "cpd-data"


def server_url(explicit: str | None, environment: Mapping[str, str]) -> str:
    """`explicit`, then CPD_URL, then the address where `cpd serve` listens by default."""
    return (explicit or environment.get("CPD_URL") or DEFAULT_URL).rstrip("/")


def key_files(environment: Mapping[str, str]) -> tuple[Path, Path]:
    """Files that may hold a key: the one `cpd serve` writes, then the user's own."""
    data_dir = Path(environment.get("CPD_DATA_DIR") or DEFAULT_DATA_DIR)
    configuration = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return data_dir / "key", configuration / "cpd" / "key"


def api_key(explicit: str | None, environment: Mapping[str, str]) -> str | None:
    """`explicit`, then CPD_API_KEY, then <data_dir>/key, then ~/.config/cpd/key; None where there is none."""
    found = explicit or environment.get("CPD_API_KEY")
    if found:
        return found.strip()
    for file in key_files(environment):
        if file.is_file():
            return file.read_text().strip() or None
    return None
