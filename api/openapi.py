"""Prints the description of the API: `python -m api.openapi > docs/openapi.json` refreshes the snapshot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from api.app import create_app
from api.core.settings import Settings


def text() -> str:
    """The description as the snapshot has it, whatever the environment sets."""
    with TemporaryDirectory() as folder:
        page_max = Settings.model_fields["page_max"].default
        app = create_app(Settings(data_dir=Path(folder), page_max=page_max))
        return json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
