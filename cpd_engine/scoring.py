"""Cross-entropy of samples under a model, and of answers against references: what profiles and evaluations are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.data.batches import pack, pad, parts
from cpd_engine.data.encode import Sample
from cpd_engine.fleet import Dealt
from cpd_engine.kernel import token_cross_entropies, token_entropies
from cpd_engine.models.decoder import Decoder
from cpd_engine.projection import Workspace, head_of
from cpd_engine.runtime import Runtime

# Tokens a batch: bounds memory whatever the lengths, and fills a GPU.
BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropies:
    """Per sample: −log q(y) in nats summed over its supervised tokens (float64 [N]; may be NaN or infinite), and their number.

    `entropy_sums`: the entropies −Σ q log q summed likewise, where they were asked for.
    """

    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]
    entropy_sums: NDArray[np.float64] | None = None

    @property
    def means(self) -> NDArray[np.float64]:
        """Of each sample [N], in nats per supervised token."""
        return self.sums / self.tokens

    @property
    def mean(self) -> float:
        """Nats per supervised token over all samples."""
        return float(self.sums.sum() / self.tokens.sum())


@torch.no_grad()
def cross_entropies(
    decoder: Decoder,
    samples: Sequence[Sample],
    *,
    runtime: Runtime,
    entropies: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> CrossEntropies:
    """Score every sample, each process of a fleet its share; by entropy as well where that is asked. Leaves the model in eval mode.

    `on_progress(done, total)` is called after each batch and may raise StopRequested.
    """
    fleet, total = runtime.fleet, len(samples)
    with fleet.apart():
        found = _cross_entropies(
            decoder,
            samples if fleet.world == 1 else Dealt(samples, fleet),
            runtime,
            entropies,
            lambda done: on_progress(min(done * fleet.world, total), total) if on_progress is not None else None,
        )
    if fleet.world == 1:
        return found
    whole = _none(total, entropies)
    for rank, part in enumerate(fleet.gathered(found)):
        whole.sums[rank :: fleet.world] = part.sums
        whole.tokens[rank :: fleet.world] = part.tokens
        if whole.entropy_sums is not None and part.entropy_sums is not None:
            whole.entropy_sums[rank :: fleet.world] = part.entropy_sums
    return whole


def _none(samples: int, entropies: bool) -> CrossEntropies:
    return CrossEntropies(
        sums=np.zeros(samples, dtype=np.float64),
        tokens=np.zeros(samples, dtype=np.int64),
        entropy_sums=np.zeros(samples, dtype=np.float64) if entropies else None,
    )


def _cross_entropies(
    decoder: Decoder, samples: Sequence[Sample], runtime: Runtime, entropies: bool, on_batch: Callable[[int], None]
) -> CrossEntropies:
    decoder.model.eval()
    lengths = np.array([len(sample.input_ids) for sample in samples], dtype=np.int64)
    found, done, workspace = _none(len(samples), entropies), 0, Workspace()
    for part in parts(lengths, tokens=BATCH_TOKENS, padded=not decoder.packs) if len(samples) else ():
        chosen = [samples[i] for i in part]
        batch = (pack(chosen) if decoder.packs else pad(chosen)).to(runtime.device)
        with runtime.autocast():
            states_ND, head = decoder.states(batch), head_of(decoder)
            ce_N = token_cross_entropies(states_ND, head, batch.targets, workspace=workspace)
            entropy_N = token_entropies(states_ND, head, workspace=workspace) if entropies else None
        found.sums[part] = _by_sample(ce_N, batch.supervised)
        found.tokens[part] = batch.supervised
        if found.entropy_sums is not None and entropy_N is not None:
            found.entropy_sums[part] = _by_sample(entropy_N, batch.supervised)
        done += len(part)
        on_batch(done)
    return found


def _by_sample(values_N: Tensor, supervised: Sequence[int]) -> list[float]:
    """Sums over each sample's tokens."""
    return [float(part.sum()) for part in np.split(values_N.cpu().numpy(), np.cumsum(supervised)[:-1])]
