"""What the security of model files rests on in the source, and that each promise of docs/security.md has the tests that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADERS = {"AutoModelForCausalLM", "AutoTokenizer", "AutoConfig"}
PROMISES = ROOT / "docs" / "security.md"


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of `from_pretrained` in what we ship, with its place."""
    for package in ("api", "worker", "cpd_engine"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_nothing_is_loaded_but_safetensors_from_this_machine_and_no_code_with_it() -> None:
    found = [(place, call) for place, call in calls() if ast.unparse(call.func).split(".")[0] in LOADERS]
    wrong = []
    for place, call in found:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        wanted = {"trust_remote_code": "False", "local_files_only": "True"}
        # GGUF is a format of its own, which the command line alone converts.
        if ast.unparse(call.func) == "AutoModelForCausalLM.from_pretrained" and "gguf_file" not in given:
            wanted["use_safetensors"] = "True"
        if not wanted.items() <= given.items():
            wrong.append(f"{place}: {wanted.items() - given.items()}")

    assert len(found) >= 4
    assert wrong == []


def test_no_other_class_of_transformers_loads_a_folder() -> None:
    assert [place for place, call in calls() if ast.unparse(call.func).split(".")[0] not in LOADERS] == []


def test_every_promise_names_tests_that_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PROMISES.read_text("utf-8"))
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not (ROOT / path).is_file() or (test and f"def {test}(" not in (ROOT / path).read_text("utf-8"))
    ]

    assert len(named) > 40
    assert missing == []
