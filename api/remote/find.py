"""Where the service is and which key opens it, in the order in which people expect it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from api.remote.trouble import BadInput

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_DATA_DIR = "cpd-data"


def server_url(explicit: str | None, environment: Mapping[str, str]) -> str:
    """`explicit`, then CPD_URL, then the address where `cpd serve` listens by default. Raises BadInput for what is no address."""
    given = (explicit or environment.get("CPD_URL") or DEFAULT_URL).rstrip("/")
    try:
        httpx.URL(given)
    except httpx.InvalidURL as error:
        raise BadInput(f"{given!r} is no address of a server ({error}): see --url or CPD_URL") from error
    return given


def key_files(environment: Mapping[str, str]) -> tuple[Path, Path]:
    """Files that may hold a key: the one `cpd serve` writes, then the user's own."""
    data_dir = Path(environment.get("CPD_DATA_DIR") or DEFAULT_DATA_DIR)
    configuration = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return data_dir / "key", configuration / "cpd" / "key"


def api_key(explicit: str | None, environment: Mapping[str, str]) -> str | None:
    """`explicit`, then CPD_API_KEY, then <data_dir>/key, then ~/.config/cpd/key; None where there is none.

    Raises BadInput where what stands there cannot be a key.
    """
    found = explicit or environment.get("CPD_API_KEY")
    if found:
        return _key(found, "what --api-key or CPD_API_KEY gives")
    for file in key_files(environment):
        if file.is_file():
            try:
                return _key(file.read_text(errors="replace"), f"what {file} holds")
            except OSError as error:
                remedy = "see who may read it, or give the key with --api-key or CPD_API_KEY"
                raise BadInput(f"cannot read the API key in {file} ({error.strerror}): {remedy}") from error
    return None


def _key(text: str, where: str) -> str | None:
    """A key as it goes into a header, None where the text is blank."""
    found = text.strip()
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise BadInput(f"{where} is no API key: it is one word that begins with cpd_; `cpd keys create NAME` makes one")
    return found or None
