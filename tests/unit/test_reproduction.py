from __future__ import annotations

from typing import Any

import pytest

from cpd_engine.config import RunConfig
from cpd_engine.reproduction import pinned, place, plain_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("rows.jsonl", "train.jsonl"),
        ("my $(rm -rf ~) rows.JSON", "train.json"),
        ("rows.v2.jsonl.gz", "train.jsonl.gz"),
        ("ds_1", "train"),
        ("a.'; reboot", "train"),
        (".hidden", "train.hidden"),
    ],
)
def test_a_file_of_rows_gets_a_name_that_no_shell_can_misunderstand(name: str, plain: str) -> None:
    assert plain_name("train", name) == plain


def test_what_could_mean_something_else_tomorrow_is_pinned() -> None:
    spec: dict[str, Any] = {
        "teacher": {"hub": "org/teacher"},
        "student": {"from": "teacher", "drop_layers": 1},
        "dataset": {"train": "ds_aaaaaaaa", "test": "my rows.jsonl"},
        "evaluation": {
            "suites": [
                {"task": "gsm8k", "data": "ds_bbbbbbbb", "examples": "ds_cccccccc"},
                {"task": "math", "hub": "org/maths"},
            ]
        },
    }
    found = pinned(
        RunConfig.model_validate(spec).resolved(),
        commits={"teacher": COMMIT},
        suite_commits={"math": COMMIT},
        files={
            "train": "train.jsonl",
            "test": "test.jsonl",
            place(0, "data"): "suite-1-data.jsonl",
            place(0, "examples"): "suite-1-examples.jsonl",
        },
        precision="bf16",
        threads=6,
    )

    told = found.model_dump(mode="json")
    assert told["teacher"]["revision"] == COMMIT
    assert told["student"] == {"from": "teacher", "drop_layers": 1}
    assert (told["dataset"]["train"], told["dataset"]["validation"], told["dataset"]["test"]) == (
        "train.jsonl",
        None,
        "test.jsonl",
    )
    first, second = told["evaluation"]["suites"]
    assert (first["data"], first["examples"]) == ("suite-1-data.jsonl", "suite-1-examples.jsonl")
    assert second["revision"] == COMMIT
    assert (found.precision, found.threads) == ("bf16", 6)
    assert found.resolved() == found


def test_a_data_set_on_the_hub_stays_there_at_its_commit() -> None:
    spec = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"hub": "org/rows"}}
    config = RunConfig.model_validate(spec).resolved()
    found = pinned(config, commits={"dataset": COMMIT}, suite_commits={}, files={}, precision="fp32", threads=1)

    assert (found.dataset.hub, found.dataset.revision, found.dataset.train) == ("org/rows", COMMIT, None)
