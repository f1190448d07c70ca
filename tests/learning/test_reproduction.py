"""A downloaded student is made again by the script that lies beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.learning.engine_runs import recipe, run_to_end, start

ROWS = [{"instruction": f"Add {i} and {j}.", "output": str(i + j)} for i in range(10) for j in range(10)]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a small run on a file of rows that it also has a suite of, in bf16, with a licence that was given."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "my rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    suite = {"task": "custom", "name": "sums", "data": "my rows.jsonl", "rows": 3, "seeds": [1], "max_new_tokens": 2}
    spec = recipe(
        folder,
        name="<b>mine</b>",
        dataset={"train": "my rows.jsonl", "license": "CC-BY-4.0"},
        teacher_sft=None,
        epochs=2,
        precision="bf16",
        evaluation={"validation_rows": 4, "test_rows": 3, "generation": {"max_new_tokens": 2}, "suites": [suite]},
    )
    run_to_end(start(spec, folder / "out"))
    return folder / "out" / "export"


def reproduce(student: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(student / "reproduce.sh"), *map(str, arguments)]
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def again(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the script has made it again, out of a folder in which the file of rows has another name."""
    folder = tmp_path_factory.mktemp("again")
    (folder / "renamed").write_bytes((student.parents[1] / "my rows.jsonl").read_bytes())
    (folder / "others.jsonl").write_text("{}\n")
    done = reproduce(student, folder / "out", folder)
    assert done.returncode == 0, done.stderr
    assert "bit for bit" in done.stdout
    return folder / "out"


def test_the_script_in_a_download_makes_the_same_weights_bit_for_bit(student: Path, again: Path) -> None:
    for name in ("model.safetensors", "spec.json", "tokenizer.json", "report.json"):
        assert (again / "run" / "export" / name).read_bytes() == (student / name).read_bytes(), name


def test_rows_that_are_not_those_are_refused_before_anything_is_run(student: Path, tmp_path: Path) -> None:
    (tmp_path / "my rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    done = reproduce(student, tmp_path / "again", tmp_path)

    assert done.returncode == 2
    assert "has the sha256" in done.stderr
    assert not (tmp_path / "again" / "run").exists()


def test_every_file_of_a_download_is_in_its_sums_and_the_card_tells_where_it_comes_from(student: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=student, capture_output=True, check=False
    )
    listed = {line.split("  ", 1)[1] for line in (student / "SHA256SUMS").read_text().splitlines()}
    card = (student / "README.md").read_text()
    lineage = json.loads((student / "lineage.json").read_text())
    (rows,) = lineage["data"]["files"]["train"]

    assert checked.returncode == 0
    assert listed == {file.name for file in student.iterdir()} - {"SHA256SUMS", "manifest.json"}
    assert r"# \<b\>mine\</b\>" in card
    assert "- Rows: CC-BY-4.0, as whoever gave them states it" in card
    assert "- Teacher: none: fresh weights, made by the run itself" in card
    assert rows["sha256"] in card
    assert next(iter(lineage["student"]["weights"].values())) != lineage["teacher"]["weights"]["model.safetensors"]
    assert (lineage["precision"], lineage["seeds"]) == ("bf16", {"seed": 0, "student_seed": 0})


def test_weights_that_are_others_are_told_apart(student: Path, again: Path, tmp_path: Path) -> None:
    for name in ("reproduce.sh", "spec.json"):
        (tmp_path / name).write_bytes((student / name).read_bytes())
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    # The run stands there already, so nothing is trained anew.
    done = reproduce(tmp_path, again, student.parents[1])

    assert done.returncode == 1
    assert "The weights differ" in done.stderr
