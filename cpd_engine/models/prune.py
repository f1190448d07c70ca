"""A student cut from its teacher: the layers that change their input least are dropped.

Block influence of a layer = mean over tokens of 1 − cos(layer input, layer output) (Men et al., ShortGPT, 2024, equation 1).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cpd_engine.data.batches import Batch
from cpd_engine.errors import ConfigInvalid, UnsupportedModel
from cpd_engine.models.decoder import Decoder, wrap


@torch.no_grad()
def block_influence(decoder: Decoder, batches: Iterable[Batch]) -> list[float]:
    """Influence of each layer in 0..2 over the batches' real tokens; cosines in float32, their sum in float64."""
    layers = decoder_layers(decoder)
    sums = torch.zeros(len(layers), dtype=torch.float64)
    tokens = 0
    mask_BT = torch.empty(0)

    def measure(index: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output if isinstance(output, Tensor) else output[0]
            cos_BT = nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            sums[index] += (1.0 - cos_BT)[mask_BT].double().sum().cpu()

        return hook

    hooks = [layer.register_forward_hook(measure(index), with_kwargs=True) for index, layer in enumerate(layers)]
    try:
        for batch in batches:
            on_device = batch.to(decoder.device)
            assert on_device.attention_mask is not None, "influence is measured on padded batches"
            mask_BT = on_device.attention_mask
            decoder.hidden(on_device.input_ids, mask_BT)
            tokens += int(mask_BT.sum())
    finally:
        for handle in hooks:
            handle.remove()
    if tokens == 0:
        raise ConfigInvalid("student.drop_layers: no token to measure block influence on")
    return [float(value) for value in sums / tokens]


def least_influential(influence: Sequence[float], count: int) -> list[int]:
    """Indices of the `count` layers of lowest influence, in order of position; at a tie the earlier layer."""
    if not 0 < count < len(influence):
        raise ConfigInvalid(
            f"student.drop_layers: {count} of {len(influence)} layers; at least one must go and one must stay"
        )
    return sorted(sorted(range(len(influence)), key=lambda index: influence[index])[:count])


def drop_layers(decoder: Decoder, layers: Collection[int]) -> Decoder:
    """A copy of the decoder without these layers, renumbered so that it saves, reloads and caches like any other model."""
    dropped = set(layers)
    total = len(decoder_layers(decoder))
    if not dropped <= set(range(total)) or len(dropped) >= total:
        raise ConfigInvalid(f"student.drop_layers: {sorted(dropped)} of a model with layers 0 to {total - 1}")
    kept = [index for index in range(total) if index not in dropped]
    model = copy.deepcopy(decoder.model)
    owner, name = _layers_of(model, total)
    stack = getattr(owner, name)
    setattr(owner, name, nn.ModuleList(stack[index] for index in kept))
    for position, layer in enumerate(getattr(owner, name)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):  # where a layer keeps its keys and values in the cache
                module.layer_idx = position
    _shorten(model.config, kept, total)
    return wrap(model, decoder.tokenizer)


def decoder_layers(decoder: Decoder) -> nn.ModuleList:
    """The stack of decoder layers. UnsupportedModel where there is no single stack of `num_hidden_layers`."""
    owner, name = _layers_of(decoder.model, decoder.model.config.num_hidden_layers)
    found = getattr(owner, name)
    assert isinstance(found, nn.ModuleList)
    return found


def _layers_of(model: nn.Module, count: int) -> tuple[nn.Module, str]:
    """The module and the attribute that hold the layers: `model.layers`, `transformer.h`, `gpt_neox.layers`, …"""
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return owner, name
    raise UnsupportedModel(
        f"{type(model).__name__} keeps its layers in a way this engine does not know; it cannot be cut"
    )


def _shorten(config: Any, kept: Sequence[int], total: int) -> None:
    """`num_hidden_layers`, and every setting that is a list with one entry a layer, such as `layer_types`."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list | tuple) and len(value) == total and not name.startswith("_"):
            setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)
