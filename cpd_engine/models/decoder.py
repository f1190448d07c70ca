"""A causal language model as the rest of the engine sees it: hidden states, and what turns them into logits.

Legend of shapes: B sequences, T positions, D hidden width, V real vocabulary (largest tokenizer id + 1).
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import NewGELUActivation

from cpd_engine.data.batches import Batch, Segments
from cpd_engine.errors import UnsupportedModel
from cpd_engine.models import attention

# Settings of an architecture that scale its logits, some as a factor, some as a divisor: which one is measured, not believed.
_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")
_CAPS = ("final_logit_softcapping", "logits_soft_cap")
# Settings that keep a token from seeing all before it.
_WINDOWS = ("sliding_window", "attention_chunk_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """logits = cap·tanh(s / cap), s = logit_scale · (hidden @ weight.T + bias), over ids 0..V−1 only.

    `adapter` is the peft wrapper where LoRA is attached. peft changes a model's modules in place, so `model` computes with it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int
    logit_scale: float = 1.0
    soft_cap: float | None = None
    adapter: Any = None
    # Keyword arguments that the body's forward knows.
    accepts: frozenset[str] = field(default=frozenset())
    # Whether samples may follow each other in one row, each seeing itself alone: seen to give what they give one by one.
    packs: bool = False

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Last hidden states after the final norm, [B, T, D], of right-padded ids [B, T] and their mask [B, T] (bool)."""
        mask = None if attention_mask is None else attention_mask.long()
        states = self.body(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        assert isinstance(states, Tensor)
        return states

    def states(self, batch: Batch) -> Tensor:
        """The last hidden states [N, D] that predict the batch's supervised tokens, sample by sample."""
        if batch.segments is None:
            hidden_BTD = self.hidden(batch.input_ids, batch.attention_mask)
        else:
            hidden_BTD = self._packed_hidden(batch.input_ids, batch.position_ids, batch.segments)
        # index_select and not a boolean mask: its backward pass adds rows in a fixed order.
        return hidden_BTD.flatten(0, 1).index_select(0, batch.predicting)

    def _packed_hidden(self, input_ids_1T: Tensor, position_ids_1T: Tensor, segments: Segments) -> Tensor:
        """[1, T, D]. The segments say what is seen; a mask of four dimensions keeps transformers from making one of [T, T]."""
        unused = torch.empty(1, 1, 1, 1, dtype=torch.bool, device=input_ids_1T.device)
        states = self.body(
            input_ids=input_ids_1T,
            position_ids=position_ids_1T,
            attention_mask=unused,
            segments=segments,
            use_cache=False,
        ).last_hidden_state
        assert isinstance(states, Tensor)
        return states

    @property
    def body(self) -> nn.Module:
        """The model without its head."""
        return self.model.base_model

    @property
    def head(self) -> tuple[Tensor, Tensor | None]:
        """Weight [W, D] and bias [W] of the head: the parameters themselves, of whose rows the first V count."""
        head = self.model.get_output_embeddings()
        return head.weight, getattr(head, "bias", None)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], scaled and capped as the architecture says, in the model's dtype."""
        weight_WD, bias_W = self.head
        bias_V = None if bias_W is None else bias_W[: self.vocabulary]
        logits = nn.functional.linear(hidden, weight_WD[: self.vocabulary], bias_V) * self.logit_scale
        return logits if self.soft_cap is None else torch.tanh(logits / self.soft_cap) * self.soft_cap

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def parameters(self) -> int:
        """Number of weights, shared ones counted once, LoRA's included while attached."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model was built for, or None where it sets no bound."""
        bound = getattr(self.model.config, "max_position_embeddings", None)
        return bound if isinstance(bound, int) and bound > 0 else None

    def checkpoint_gradients(self, enabled: bool) -> None:
        """Recompute activations in the backward pass instead of keeping them, or keep them."""
        if enabled:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        else:
            self.model.activation_checkpointing_disable()


def wrap(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """A `Decoder` around a transformers model whose logits it has been seen to reproduce.

    Raises UnsupportedModel where it cannot: no plain linear head, fewer rows in it than the tokenizer has ids, attention to later
    tokens, or logits that come about in a way unknown here.
    """
    vocabulary = vocabulary_size(tokenizer)
    name = type(model).__name__
    head = model.get_output_embeddings()
    if model.base_model is model or not isinstance(getattr(head, "weight", None), Tensor):
        raise UnsupportedModel(f"{name} is not a causal decoder with a linear head")
    if hasattr(head, "base_layer"):
        raise UnsupportedModel(f"{name} carries an adapter on its head, which would be trained past; merge it first")
    if head.weight.shape[0] < vocabulary:
        raise UnsupportedModel(
            f"{name} scores {head.weight.shape[0]} ids but its tokenizer has {vocabulary}; use the tokenizer it was trained with"
        )
    _fuse_activations(model)
    decoder = Decoder(
        model=model,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        soft_cap=_setting(model.config, _CAPS),
        accepts=frozenset(inspect.signature(model.base_model.forward).parameters),
    )
    return _measured(decoder)


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """V: the largest id of any token, added ones included, plus 1. Heads are often padded beyond it."""
    return int(max(tokenizer.get_vocab().values())) + 1


def _fuse_activations(model: nn.Module) -> None:
    """GPT-2's GELU as torch's own operation: the same tanh approximation, in one pass instead of eight (a tenth of a step's time)."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _setting(config: Any, names: tuple[str, ...]) -> float | None:
    values = (getattr(config, name, None) for name in names)
    return next((float(value) for value in values if value), None)


@torch.no_grad()
def _measured(decoder: Decoder) -> Decoder:
    """The decoder with the logit scale under which it gives the model's own logits on a few tokens; checks causality as well."""
    scale = _setting(decoder.model.config, _SCALES)
    training = decoder.model.training
    decoder.model.eval()
    ids = torch.arange(8, device=decoder.device)[None] % decoder.vocabulary
    mask = torch.ones_like(ids)
    hidden = decoder.hidden(ids, mask)
    wanted = (
        decoder.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[..., : decoder.vocabulary].float()
    )
    shorter = decoder.hidden(ids[:, :4], mask[:, :4])
    decoder.model.train(training)
    name = type(decoder.model).__name__
    if not _near(hidden[:, :4].float(), shorter.float()):
        raise UnsupportedModel(f"{name} lets a token see later ones: it is not a causal decoder")
    for candidate in (1.0,) if scale is None else (scale, 1.0 / scale, 1.0):
        found = dataclasses.replace(decoder, logit_scale=candidate)
        if _near(found.logits(hidden).float(), wanted):
            return dataclasses.replace(found, packs=_packs(found, ids, hidden))
    raise UnsupportedModel(
        f"{name} makes its logits in a way this engine does not know; it cannot be distilled correctly"
    )


def _packs(decoder: Decoder, ids_1T: Tensor, hidden_1TD: Tensor) -> bool:
    """Whether packed attention gives two samples what they have alone; the model is left with it where it does."""
    config = decoder.model.config
    before = config._attn_implementation
    if before != "sdpa":
        return False
    attention.register()
    config._attn_implementation = attention.NAME
    length = ids_1T.shape[1]
    starts = torch.tensor([0, length // 2, length // 2 + length], dtype=torch.int32, device=decoder.device)
    segments = attention.Probed(bounds=tuple(starts.tolist()), starts=starts, longest=length, windows=set())
    places = torch.arange(length, device=decoder.device)
    training = decoder.model.training
    decoder.model.eval()
    try:
        packed_1TD = decoder._packed_hidden(
            torch.cat([ids_1T.flip(1)[:, : length // 2], ids_1T], dim=1),
            torch.cat([places[: length // 2], places])[None],
            segments,
        )
        good = _near(packed_1TD[:, length // 2 :].float(), hidden_1TD.float())
        if any(getattr(config, name, None) for name in _WINDOWS) and segments.windows == {None}:
            # What limits this family's sight is in the mask, which packing does without; the probe is too short to show it.
            good = False
    except (
        TypeError,
        ValueError,
        RuntimeError,
        IndexError,
    ):  # a family that knows nothing of segments, or of such masks
        good = False
    finally:
        decoder.model.train(training)
    if not good:
        config._attn_implementation = before
    return good


def _near(left: Tensor, right: Tensor) -> bool:
    """Equal but for rounding, which in bfloat16 is some 2⁻⁸ of the largest value."""
    return bool((left - right).abs().max() <= 0.02 * right.abs().max() + 1e-6)
