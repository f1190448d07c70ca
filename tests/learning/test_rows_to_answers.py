from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from cpd_engine.config import GenerationSpec, TinyModel
from cpd_engine.data.batches import pad
from cpd_engine.data.encode import encode, encode_prompts, end_id
from cpd_engine.data.records import Row
from cpd_engine.generate import generate
from cpd_engine.models.tiny import build_tiny

ROWS = [
    Row(str(i), f"Say {word}.", "", word[::-1], (word[::-1],))
    for i, word in enumerate(["amber", "basket", "castle", "dragon", "engine", "forest"])
]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_a_model_trained_on_rows_answers_them_and_stops(
    kind: Literal["gpt2", "llama", "qwen2"], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    texts = [text for row in ROWS for text in (row.instruction, row.response)]
    ref = TinyModel(tiny=kind, layers=2, hidden=64, heads=2, vocabulary=300)
    made = build_tiny(ref, texts, tmp_path, max_positions=256)
    batch = pad(encode(ROWS, made.tokenizer, template="paper", max_length=256).samples)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=1e-3)
    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(made.logits(made.states(batch)), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    answers = generate(
        made,
        encode_prompts(made.tokenizer, ROWS, "paper"),
        settings=GenerationSpec(max_new_tokens=20, batch_size=4),
        end_ids=[end_id(made.tokenizer, "paper")],
        seeds=[0] * len(ROWS),
    )
    assert [(answer.text, answer.finish_reason) for answer in answers] == [(row.response, "stop") for row in ROWS]
