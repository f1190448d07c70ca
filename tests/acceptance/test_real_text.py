"""Distilling real text through the service: Dolly rows, the GPT-2 tokenizer, models that lie in the operator's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.acceptance.conftest import Service
from tests.backends import Backend
from tests.shared_data import shared_data


def make_model(folder: Path, tokenizer: Path, *, layers: int, width: int) -> None:
    """A GPT-2 with fresh seeded weights and the real tokenizer, as `save_pretrained` writes it."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(layers)
    vocabulary = AutoTokenizer.from_pretrained(tokenizer)
    end = vocabulary.eos_token_id
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_layer=layers,
        n_embd=width,
        n_head=2,
        n_positions=512,
        bos_token_id=end,
        eos_token_id=end,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    vocabulary.save_pretrained(folder)


def take(source: Path, target: Path, count: int) -> Path:
    with source.open() as lines:
        target.write_text("".join(islice(lines, count)))
    return target


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_rows_of_dolly_are_distilled_with_the_tokenizer_of_gpt2(
    start: Callable[..., Service], backend: Backend, tmp_path: Path
) -> None:
    tokenizer = shared_data("tokenizers", "gpt2")
    models = tmp_path / "models"
    make_model(models / "teacher", tokenizer, layers=2, width=64)
    make_model(models / "student", tokenizer, layers=1, width=32)
    train = take(shared_data("dolly", "train.jsonl"), tmp_path / "train.jsonl", 240)
    take(shared_data("dolly", "test.jsonl"), tmp_path / "test.jsonl", 16)
    recipe = tmp_path / "dolly.yaml"
    spec = {
        "teacher": {"local": "teacher"},
        "student": {"local": "student"},
        "dataset": {"train": "train.jsonl", "test": "test.jsonl"},
        "epochs": 2,
        "max_length": 256,
        "threads": 1,
        "optimizer": {"learning_rate": 3e-3, "batch_size": 8},
        "teacher_sft": {"epochs": 2, "optimizer": {"learning_rate": 3e-3, "batch_size": 8}},
        "evaluation": {
            "validation_metric": "ce",
            "validation_rows": 16,
            "generation": {"max_new_tokens": 16, "batch_size": 16},
        },
    }
    recipe.write_text(json.dumps(spec))

    service = start(backend, "--model-root", models)
    assert service.cpd_json("datasets", "check", train)["bad_rows"] == 0
    done = service.cpd("submit", recipe, "--follow", "--exit-status", "--json")
    assert done.returncode == 0, done.stderr + service.tail()
    job = json.loads(done.stdout.splitlines()[-1])

    loss = {subject: scores["ce"] for subject, scores in job["scores"].items()}
    # ln 50,257 = 10.8 nats for a model that knows nothing.
    assert loss["untouched"] > 10.0
    assert loss["teacher"] < loss["untouched"] - 2.0
    assert loss["student"] < loss["untouched"] - 1.5
    student = tmp_path / "downloaded"
    service.cpd_json("download", job["id"], "--out", student)
    assert {path.name for path in student.iterdir()} >= {
        "model.safetensors",
        "tokenizer.json",
    }
