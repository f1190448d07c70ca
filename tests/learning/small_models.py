"""Tiny decoders and samples for tests that train them for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cpd_engine.config import TinyModel
from cpd_engine.data.encode import Sample
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.tiny import build_tiny
from cpd_engine.runtime import Runtime

TEXTS = [f"{a} and {b} make {a + b}, says the {word}" for a in range(20) for b, word in ((3, "fox"), (11, "owl"))]
CPU = Runtime(device=torch.device("cpu"), precision="fp32", threads=1)


def decoder(folder: Path, *, kind: str = "llama", layers: int = 1, hidden: int = 32, seed: int = 0) -> Decoder:
    """A decoder with fresh weights; all of them share one tokenizer."""
    ref = TinyModel.model_validate(
        {"tiny": kind, "layers": layers, "hidden": hidden, "heads": 2, "vocabulary": 300, "seed": seed}
    )
    return build_tiny(ref, TEXTS, folder / f"{kind}-{layers}-{hidden}-{seed}")


def samples(count: int, *, seed: int = 0) -> list[Sample]:
    """Random tokens of different lengths, the end of each supervised."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(random.integers(6, 20))
        ids = random.integers(2, 250, size=length).astype(np.int32)
        made.append(Sample(id=f"s{number}", row=number, input_ids=ids, prompt_length=int(random.integers(1, length))))
    return made
