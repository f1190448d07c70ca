"""What a configuration describes, held against what the weight files hold, before any memory is given for it.

A configuration is a few bytes of a stranger's that may ask for any number of layers of any width; weights that a file lacks would be
made up by transformers, however many they are, before anybody sees that they are missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

from cpd_engine.errors import UnsafeModelFormat, UnsupportedModel
from cpd_engine.models.files import load_config

# Layers under all their names in transformers; a layer has one tensor at least.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Tied weights are described twice and stored once, some buffers are made and never stored.
_MARGIN = 4
_BUFFER_BYTES = 16 * 2**30


def check_sizes(path: Path, config: dict[str, Any]) -> None:
    """See that the model which a checked directory describes is about as large as its files.

    Raises:
        UnsafeModelFormat: it is not.
        UnsupportedModel: a weight file, or the configuration, is none.
    """
    stored = list(_stored(path))
    for name in _LAYERS:
        layers = config.get(name)
        if isinstance(layers, int) and layers > len(stored):
            raise UnsafeModelFormat(f"{path.name}: {name} is {layers}, and its files hold {len(stored)} tensors")
    weights, buffer_bytes = _described(path)
    if weights > _MARGIN * sum(stored) or buffer_bytes > _BUFFER_BYTES:
        raise UnsafeModelFormat(
            f"{path.name}: its config.json describes {weights:.3g} weights and {buffer_bytes:.3g} bytes beside them, and its files "
            f"hold {sum(stored):.3g} weights"
        )


def _stored(path: Path) -> Iterator[int]:
    """Elements of every tensor, from the headers alone."""
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    yield math.prod(tensors.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise UnsupportedModel(f"{path.name}: {file.name} is no safetensors file ({error})") from error


def _described(path: Path) -> tuple[int, int]:
    """Weights of the model, and bytes of its buffers; it is built without memory for either."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(load_config(path), trust_remote_code=False)
    except Exception as error:  # whatever a class makes of a configuration that is not for it
        raise UnsupportedModel(f"{path.name}: transformers cannot build it ({_short(error)})") from error
    weights = sum(parameter.numel() for parameter in model.parameters())
    return weights, sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"
