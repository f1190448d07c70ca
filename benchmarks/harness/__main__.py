"""`python -m benchmarks.harness --harness PYTHON --out DIR`: lm-evaluation-harness beside the project's own scorer, row by row.

A small student learns sums on the spot. Both then answer the same prompts greedily and grade what was said: the project as a `gsm8k`
suite, the harness by a task of its own over a local file. `PYTHON` is an interpreter that has lm_eval 0.4.13. Exit code 1 where any
row differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness.comparison import Row, compared, table
from cpd_engine import pipeline
from cpd_engine.config import ExaminationConfig, RunConfig
from cpd_engine.data.records import Row as Asked
from cpd_engine.evaluation.prompts import plain_prompt
from cpd_engine.events import Event
from cpd_engine.examination import examine
from cpd_engine.inputs import Inputs

TASK = "local_sums"
NEW_TOKENS = 40
# Few enough that a tiny model learns some of them, so that both right and wrong answers are compared.
HIGHEST, ROWS_OF_TEST = 24, 40


def main() -> int:
    """Train, ask both, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness", description=__doc__)
    parser.add_argument("--harness", required=True, metavar="PYTHON", help="interpreter that has lm_eval")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    test = write_rows(out)
    model = train(out)
    found = compared(ours(model, test, out), theirs(arguments.harness, model, test, out))
    sys.stdout.write(table(found))
    return 0 if found.agrees else 1


def write_rows(out: Path) -> Path:
    """train.jsonl for the engine, and test.jsonl with the fields of GSM8K, the prompt and the gold answer; the path of the latter."""
    pairs = [(a, b) for a in range(HIGHEST) for b in range(10)]
    random.Random(0).shuffle(pairs)
    with (out / "train.jsonl").open("w", encoding="utf-8") as train:
        for a, b in pairs[ROWS_OF_TEST:]:
            row = {"instruction": _prompt(a, b), "output": f"{a} plus {b} makes {a + b}. The answer is {a + b}."}
            train.write(json.dumps(row) + "\n")
    test = out / "test.jsonl"
    with test.open("w", encoding="utf-8") as rows:
        for number, (a, b) in enumerate(pairs[:ROWS_OF_TEST]):
            asked = {"id": f"sum-{number}", "question": f"What is {a} + {b}?", "answer": f"#### {a + b}"}
            rows.write(json.dumps(asked | {"asked": _prompt(a, b), "gold": str(a + b)}) + "\n")
    return test


def _prompt(a: int, b: int) -> str:
    return plain_prompt(Asked("", f"What is {a} + {b}?", "", "", ()), "maths")


def train(out: Path) -> Path:
    """The directory of a student that has learned from train.jsonl."""
    model = {"tiny": "llama", "layers": 2, "hidden": 64, "heads": 4, "vocabulary": 400}
    spec = {
        "teacher": model,
        "student": model | {"seed": 1},
        "dataset": {"train": "train.jsonl"},
        "preset": "sft",
        "epochs": 60,
        "threads": 1,
        "template": "chat",
        "max_length": 128,
        "optimizer": {"batch_size": 16, "learning_rate": 3e-3},
        "evaluation": {"validation_rows": 0, "test_rows": 2, "generation": {"max_new_tokens": NEW_TOKENS}},
    }
    config = RunConfig.model_validate_json(json.dumps(spec))
    run = out / "run"
    pipeline.run(config, inputs=Inputs(base=out), out=run, emit=_unheard, should_stop=lambda: False)
    return run / "export"


def _unheard(_event: Event) -> None:
    """Nobody watches."""


def ours(model: Path, test: Path, out: Path) -> dict[str, Row]:
    """Answers and grades of the project's own scorer, by row."""
    suite = {"task": "gsm8k", "data": str(test), "shots": 0, "max_new_tokens": NEW_TOKENS}
    config = ExaminationConfig.model_validate({"suites": [suite], "template": "chat", "batch_size": 7})
    place = out / "ours"
    examine(config, model=model, inputs=Inputs(), out=place, emit=_unheard, should_stop=lambda: False)
    lines = (place / "suites" / "model" / "gsm8k" / "greedy" / "answers.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return {line["row"]: Row(text=line["text"], right=line["scores"]["accuracy"] == 1.0) for line in found}


def theirs(harness: str, model: Path, test: Path, out: Path) -> dict[str, Row]:
    """Answers and grades of the harness, by row."""
    place = out / "theirs"
    (out / "tasks").mkdir(exist_ok=True)
    (out / "tasks" / f"{TASK}.yaml").write_text(yaml.safe_dump(_task(test)), "utf-8")
    command = [harness, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"]
    command += ["--tasks", TASK, "--include_path", str(out / "tasks"), "--device", "cpu", "--batch_size", "4"]
    command += ["--apply_chat_template", "--log_samples", "--output_path", str(place)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(out / "cache")}
    subprocess.run(command, env=os.environ | offline, check=True, stdout=subprocess.DEVNULL)
    logged = max(place.rglob(f"samples_{TASK}_*.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = [json.loads(line) for line in logged.read_text("utf-8").splitlines()]
    return {line["doc"]["id"]: Row(text=line["resps"][0][0], right=line["exact_match"] == 1.0) for line in lines}


def _task(test: Path) -> dict[str, Any]:
    last_answer = {"function": "regex", "regex_pattern": r"The answer is (-?\d+)", "group_select": -1}
    return {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(test)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{asked}}",
        "doc_to_target": "{{gold}}",
        "generation_kwargs": {"until": ["### Problem:"], "do_sample": False, "max_gen_toks": NEW_TOKENS},
        "filter_list": [{"name": "answer", "filter": [last_answer, {"function": "take_first"}]}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


if __name__ == "__main__":
    sys.exit(main())
