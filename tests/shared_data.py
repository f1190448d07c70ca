"""The real data and tokenizers that lie beside the project on some machines; the project needs none of it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """The path of a shared file or folder; skips the test that asks where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs shared/data/{'/'.join(parts)} beside the project; see CONTRIBUTING.md")
    return path
