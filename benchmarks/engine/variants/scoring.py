"""The profile pass: the loss of every sample under the untrained student, plainly and by the engine."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.engine.measure import Meter
from benchmarks.engine.models import build
from benchmarks.engine.setting import BATCH_SIZE, Setting
from benchmarks.engine.variants.padded import IGNORED, padded
from cpd_engine import scoring
from cpd_engine.data.encode import Sample
from cpd_engine.runtime import Runtime


def score(setting: Setting, meter: Meter) -> tuple[float, ...]:
    """`scoring.cross_entropies`: nats per sample, in the order of their rows."""
    decoder = build(setting.pair, "student", setting.seed)
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", threads=setting.threads)
    scoring.cross_entropies(decoder, setting.warm_up(), runtime=runtime)
    samples = setting.drawn()
    meter.start()
    found = scoring.cross_entropies(decoder, samples, runtime=runtime)
    meter.stop()
    return tuple(found.sums.tolist())


def score_padded(setting: Setting, meter: Meter) -> tuple[float, ...]:
    """Padded batches in the order given, full logits; nats per sample, in the order of their rows."""
    model = build(setting.pair, "student", setting.seed).model.eval()
    batch_scores(model, setting.warm_up())
    batches = setting.batches()
    meter.start()
    scores = {row: nats for batch in batches for row, nats in batch_scores(model, batch).items()}
    meter.stop()
    return tuple(scores[row] for row in range(BATCH_SIZE * setting.steps))


@torch.no_grad()
def batch_scores(model: nn.Module, samples: list[Sample]) -> dict[int, float]:
    """Nats of each sample by its row."""
    ids_BT, mask_BT, labels_BT = padded(samples)
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT).logits[:, :-1]
    nats_BT = nn.functional.cross_entropy(
        logits_BTV.transpose(1, 2), labels_BT[:, 1:], ignore_index=IGNORED, reduction="none"
    )
    return dict(zip((sample.row for sample in samples), nats_BT.double().sum(dim=1).tolist(), strict=True))
