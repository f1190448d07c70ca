from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cpd_engine.errors import ModelNotFound
from cpd_engine.models.gguf import convert


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"absent\.gguf: no such file"):
        convert(tmp_path / "absent.gguf", tmp_path / "out")


def test_without_the_gguf_package_the_remedy_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    code = (
        "import sys; sys.modules['gguf'] = None\n"
        "from pathlib import Path\n"
        "from cpd_engine.errors import ConfigInvalid\n"
        "from cpd_engine.models.gguf import convert\n"
        f"try: convert(Path({str(tmp_path / 'model.gguf')!r}), Path('out'))\n"
        "except ConfigInvalid as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'cpd[gguf]'" in done.stdout
