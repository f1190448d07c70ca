"""One run of the quality study, whole: what it scores is what plain transformers says of the student that it made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.quality.families import FAMILIES
from benchmarks.quality.ledger import Record, unpacked
from benchmarks.quality.materials import digest, rows
from benchmarks.quality.study import Setting, scores
from benchmarks.quality.unit import Place, execute
from cpd_engine.config import TinyModel
from cpd_engine.models.tiny import build_tiny

SMALL = replace(FAMILIES["tasks"], training_rows=24, validation_rows=6, test_rows=10, steps=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    work = tmp_path_factory.mktemp("study")
    files = rows(work, SMALL, SMALL.seeds[0], None)
    texts = [json.loads(line)["instruction"] for line in files["train"].read_text("utf-8").splitlines()]
    for name, layers in (("t", 2), ("s", 1)):
        build_tiny(
            TinyModel(tiny="llama", layers=layers, hidden=32, heads=2, vocabulary=300), texts, work / "models" / name
        )
    return Place(work=work, teacher="t", student="s", files=files, commit="c")


def _carried_out(place: Place) -> Record:
    family = replace(SMALL, models=digest(place.work, ("t", "s")))
    unit = scores(family, "kld", Setting(tau_1=2.0, tau_n=2.0, learning_rate=1e-3))[0]
    return execute(unit, family, place)


def test_a_run_leaves_a_record_whose_scores_are_the_means_of_its_rows_and_nothing_on_the_disk(place: Place) -> None:
    record = _carried_out(place)
    right = unpacked(record.rows["exact_match"])
    assert len(right) == SMALL.test_rows
    assert record.scores["exact_match"] == pytest.approx(100.0 * right.mean())
    assert record.steps == SMALL.steps
    assert record.tokens > 0
    assert set(record.anchors) == {"teacher", "untouched"}
    assert record.anchors["teacher"]["kl"] == 0.0
    # Twenty steps towards the teacher bring the student nearer to it, whatever that teacher knows.
    assert 0.0 < record.scores["kl"] < record.anchors["untouched"]["kl"]
    assert not any((place.work / "runs").iterdir())
    assert replace(_carried_out(place), cpu_s=record.cpu_s) == record


def test_the_distance_to_the_teacher_is_that_of_plain_transformers_each_row_weighing_alike(place: Place) -> None:
    record = _carried_out(place)
    folders = [place.work / "models" / name for name in ("t", "s")]
    teacher, untouched = (AutoModelForCausalLM.from_pretrained(folder).double().eval() for folder in folders)
    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    found = []
    for line in place.files["test"].read_text("utf-8").splitlines():
        row = json.loads(line)
        asked = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True, return_dict=False
        )
        answer = [*tokenizer(row["output"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            p, q = (
                torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1], dim=-1) for model in (teacher, untouched)
            )
        found.append(float((p.exp() * (p - q)).sum(-1).mean()))
    assert record.anchors["untouched"]["kl"] == pytest.approx(sum(found) / len(found), rel=1e-4)
