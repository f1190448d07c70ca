"""The `cpd` command as a process, where it needs no service: help, bad input, an unreachable service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cpd_engine.config import TinyModel
from cpd_engine.data.encode import PAPER_TEMPLATE
from cpd_engine.models.tiny import build_tiny, train_tokenizer

CPD = Path(sys.executable).with_name("cpd")
# The discard port: nothing listens there.
NOWHERE = "http://127.0.0.1:9"


def cpd(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CPD_")}
    environment |= {"CPD_URL": NOWHERE, "CPD_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}
    return subprocess.run([CPD, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_help_names_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    done = cpd("--help", folder=tmp_path)
    assert done.returncode == 0
    commands = (
        "serve worker keys datasets comparisons compare submit estimate watch jobs show samples cancel pause resume"
    )
    commands += " download report flips export"
    assert all(command in done.stdout for command in commands.split())
    assert "4 service unreachable" in done.stdout


def test_a_command_that_speaks_to_the_service_loads_neither_database_nor_framework() -> None:
    # They take longer than all the rest of it: every command would begin half a second later.
    code = "import sys, api.cli; print([name for name in ('sqlalchemy', 'alembic', 'fastapi', 'celery') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unreachable_service_is_one_line_and_exit_4(tmp_path: Path) -> None:
    done = cpd("jobs", folder=tmp_path)
    assert done.returncode == 4
    assert "cpd serve" in complaint(done)


def test_a_url_that_is_none_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = cpd("jobs", "--url", "localhost:8000", folder=tmp_path)
    assert done.returncode == 2
    assert "http://" in complaint(done)


def test_a_bad_recipe_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{teacher: {tiny: gpt2}, student: {tiny: gpt2}, dataset: {synthetic: {}}, epochs: 0}")
    done = cpd("submit", recipe, folder=tmp_path)
    assert done.returncode == 2
    assert "epochs: " in complaint(done)


def test_a_bad_comparison_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    spec = tmp_path / "compare.yaml"
    base = "{teacher: {tiny: gpt2}, student: {tiny: gpt2}, dataset: {synthetic: {}}}"
    spec.write_text(f"{{base: {base}, members: [{{label: a}}, {{label: a}}]}}")
    done = cpd("compare", spec, folder=tmp_path)
    assert done.returncode == 2
    assert "members: each label once" in complaint(done)


def test_a_recipe_that_is_not_there_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = cpd("submit", tmp_path / "absent.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "absent.yaml" in complaint(done)


def test_an_unknown_option_is_exit_2(tmp_path: Path) -> None:
    assert cpd("jobs", "--colour", folder=tmp_path).returncode == 2


def test_a_file_of_rows_is_checked_offline(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 300 + "nonsense\n")
    done = cpd("datasets", "check", rows, "--json", folder=tmp_path)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["accepted"], answer["rows"], answer["bad_rows"]) == (0, True, 300, 1)
    assert answer["report"]["bad_rows"][0]["line"] == 301
    strict = cpd("datasets", "check", rows, "--max-bad-row-fraction", "0", folder=tmp_path)
    assert strict.returncode == 2
    assert "invalid_json" in strict.stdout


def test_files_are_checked_against_each_other_and_by_their_tokenizers_offline(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    train_tokenizer([PAPER_TEMPLATE, "Say a word"] * 20, 300).save_pretrained(folder)
    (tmp_path / "train.csv").write_text("instruction,output\nSay a,word\nSay a,word\nSay b,\n")
    chat = [{"from": "human", "value": "Say a"}, {"from": "gpt", "value": "another word " * 40}]
    (tmp_path / "test.json").write_text(json.dumps([{"conversations": chat}]))
    files = (tmp_path / "train.csv", tmp_path / "test.json")
    model = ("--teacher", folder, "--student", folder / "tokenizer.json", "--max-length", "120")
    done = cpd("datasets", "check", *files, *model, "--max-bad-row-fraction", "0.5", "--json", folder=tmp_path)
    answer = json.loads(done.stdout)
    train, test = answer["files"]

    assert (done.returncode, answer["accepted"], answer["rows"]) == (0, True, 3)
    (bad,) = answer["report"]["bad_rows"]
    assert (bad["line"], bad["column"], bad["suggestion"]) == (4, 2, "Write the answer, or remove the row.")
    assert (train["duplicates"]["lines"], test["format"]) == ([3], "sharegpt")
    assert test["leaked"][str(files[0])] == {"rows": 1, "lines": [1]}
    assert answer["tokens"]["vocabularies"] is None
    reports = {(one["file"], one["model"]): one for one in answer["tokens"]["reports"]}
    assert len(reports) == 4
    assert reports["test.json", "student"]["overlong"] == 1
    assert reports["train.csv", "teacher"]["shown"][0]["prompt"] == PAPER_TEMPLATE.format(instruction="Say a", input="")

    told = cpd("datasets", "check", *files, *model, "--max-bad-row-fraction", "0.5", folder=tmp_path)
    assert told.returncode == 0
    assert all(part in told.stdout for part in ("duplicates", "test.json by the student's", "█", "### Instruction:"))


def test_the_usable_rows_of_a_table_are_saved_as_json_lines(tmp_path: Path) -> None:
    table, lines = tmp_path / "rows.parquet", tmp_path / "rows.jsonl"
    pq.write_table(pa.Table.from_pylist([{"prompt": "a", "completion": "b"}]), table)
    assert cpd("datasets", "check", table, "--save", lines, folder=tmp_path).returncode == 0
    assert json.loads(lines.read_text()) == {"id": "row-1", "instruction": "a", "input": "", "output": "b"}
    again = cpd("datasets", "check", table, "--save", lines, folder=tmp_path)
    assert again.returncode == 2
    assert "--save" in complaint(again)


def test_of_a_file_that_breaks_off_nothing_is_saved(tmp_path: Path) -> None:
    rows, lines = tmp_path / "rows.json", tmp_path / "rows.jsonl"
    rows.write_text('[{"prompt": "a", "completion": "b"}, {"prompt": ')
    done = cpd("datasets", "check", rows, "--save", lines, folder=tmp_path)
    assert done.returncode == 2
    assert "not a JSON array" in done.stdout
    assert not lines.exists()


def test_a_folder_without_a_tokenizer_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}')
    done = cpd("datasets", "check", tmp_path / "rows.jsonl", "--teacher", tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert "tokenizer" in complaint(done)


def test_a_broker_that_loses_work_is_refused_with_the_remedy(tmp_path: Path) -> None:
    environment = {**os.environ, "CPD_BROKER_URL": "memory://", "CPD_DATA_DIR": str(tmp_path)}
    done = subprocess.run([CPD, "serve"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "redis://" in complaint(done)


def test_a_student_is_written_as_gguf_without_a_service_or_the_reason_is_told(tmp_path: Path) -> None:
    for family in ("llama", "gpt2"):
        build_tiny(
            TinyModel(tiny=family, layers=1, hidden=32, heads=2, vocabulary=300), ["one two"] * 9, tmp_path / family
        )
    done = cpd("export", "gguf", tmp_path / "llama", "--out", tmp_path / "m.gguf", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size_bytes"] == (tmp_path / "m.gguf").stat().st_size
    assert (tmp_path / "m.gguf").read_bytes()[:4] == b"GGUF"
    refused = cpd("export", "gguf", tmp_path / "gpt2", "--out", tmp_path / "no.gguf", folder=tmp_path)
    assert refused.returncode == 2
    assert "this is gpt2" in complaint(refused)
    assert not (tmp_path / "no.gguf").exists()
