"""Who may import whom: the contracts of pyproject.toml, and the same held by running the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Imports every module of a package in a process in which the names after it cannot be imported.
IMPORT_ALL = """
import importlib, pkgutil, sys

class Shut:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in shut:
            raise ModuleNotFoundError(f"{name} is shut here")

package, *shut = sys.argv[1:]
sys.meta_path.insert(0, Shut())
found = importlib.import_module(package)
names = [module.name for module in pkgutil.walk_packages(found.__path__, package + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_import_contracts_are_kept() -> None:
    checked = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("package", "shut"),
    [
        ("api", ("worker", "torch", "transformers", "numpy", "scipy", "matplotlib", "pandas", "peft", "tokenizers")),
        ("worker", ("torch", "transformers", "numpy", "fastapi", "starlette", "uvicorn")),
        ("cpd_engine", ("api", "worker", "sqlalchemy", "celery", "kombu", "redis", "fastapi")),
        ("migrations.versions", ("worker", "torch", "numpy", "fastapi")),
    ],
)
def test_every_module_of_a_package_is_imported_without(package: str, shut: tuple[str, ...]) -> None:
    imported = run("-W", "error", "-c", IMPORT_ALL, package, *shut)

    assert imported.returncode == 0, imported.stderr[-2000:]
    assert int(imported.stdout) > 0


def test_a_new_import_of_the_engine_by_the_api_is_a_breach(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "cpd_engine").mkdir()
    for package in ("api", "cpd_engine"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "cpd_engine" / "config.py").touch()
    (tmp_path / "cpd_engine" / "loop.py").touch()
    (tmp_path / "api" / "app.py").write_text("import cpd_engine.config\nimport cpd_engine.loop\n", encoding="utf-8")
    (tmp_path / "contracts.toml").write_text(
        """
        [tool.importlinter]
        root_packages = ["api", "cpd_engine"]
        contract_types = ["allow_list: tests.contracts.allow_list.AllowListContract"]

        [[tool.importlinter.contracts]]
        name = "few"
        type = "allow_list"
        importers = ["api"]
        package = "cpd_engine"
        allowed = ["cpd_engine.config"]
        """,
        encoding="utf-8",
    )
    program = "\n".join(
        (
            f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]",
            "from importlinter.cli import lint_imports_command",
            f"lint_imports_command(['--no-cache', '--config', {str(tmp_path / 'contracts.toml')!r}])",
        )
    )

    checked = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )

    assert checked.returncode == 1, checked.stderr
    assert "api.app -> cpd_engine.loop (l.2)" in checked.stdout
    assert "cpd_engine.config" not in checked.stdout
