"""The teacher during distillation: frozen, in eval mode, without gradients; its body runs, its head is left to the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from cpd_engine.data.batches import Batch
from cpd_engine.kernel import Head, head_of, supervised_hidden
from cpd_engine.models.decoder import Decoder
from cpd_engine.runtime import Runtime


class Teacher:
    """Gives the last hidden states that predict the supervised tokens; these are exact at every temperature."""

    def __init__(self, decoder: Decoder, runtime: Runtime) -> None:
        decoder.model.requires_grad_(False)
        decoder.model.eval()
        self._decoder = decoder
        self._runtime = runtime
        self.head: Head = head_of(decoder)

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Tensor:
        """[N, D] for the N supervised tokens of the batch, whose tensors lie on the runtime's device."""
        with self._runtime.autocast():
            hidden_BTD = self._decoder.hidden(batch.input_ids, batch.attention_mask)
        return supervised_hidden(hidden_BTD, batch.supervised)
