"""`python -m reference` writes the pages under docs/reference anew."""

from __future__ import annotations

import sys
from pathlib import Path

from reference import commands, spec

ROOT = Path(__file__).resolve().parents[1]
PAGES = {spec.PAGE: spec.text, commands.PAGE: commands.text}


def main() -> int:
    """Write every page."""
    for name, text in PAGES.items():
        (ROOT / name).write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
