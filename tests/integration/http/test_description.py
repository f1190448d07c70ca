"""What docs/openapi.json says is true of the running application: no 5xx, and every answer as declared. `make fuzz` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends import Backend
from tests.described.trial import ROOM, trial
from tests.integration.http.api import serving


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_the_application_answers_as_its_description_says(short: Backend, tmp_path: Path) -> None:
    with serving(short.with_settings(**ROOM)) as api:
        found = trial(api, tmp_path, seed=7, examples=5, everywhere=False)

    assert found.code == 0, found.said
    assert found.unserved == []
