"""What a model directory may hold: decided from its small JSON files before any weight is read or any class is made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cpd_engine.errors import ModelNotFound, UnsafeModelFormat, UnsupportedModel

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_MAX_JSON_BYTES = 64 << 20


def check_directory(path: Path) -> None:
    """Refuse a directory that is not a causal LM in safetensors that needs no code of its own.

    Raises:
        ModelNotFound: no directory, or no config.json in it.
        UnsafeModelFormat: code (`auto_map`), weights as pickles only, missing shards, shards outside the directory.
        UnsupportedModel: not a causal decoder of transformers, or quantised.
    """
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"{path.name}: no config.json; name a folder with a model in the transformers layout")
    config = _read(path / "config.json")
    tokenizer_config = path / "tokenizer_config.json"
    if "auto_map" in config or (tokenizer_config.is_file() and "auto_map" in _read(tokenizer_config)):
        raise UnsafeModelFormat(f"{path.name}: it asks for code of its own (auto_map), which is never run")
    _check_architecture(path.name, config)
    _check_weights(path)


def check_inside(path: Path, roots: Iterable[Path]) -> None:
    """ModelNotFound unless the directory and every file in it, symlinks followed, lie under one of the roots."""
    real_roots = [root.resolve() for root in roots]
    for entry in (path, *path.iterdir()):
        real = entry.resolve()
        if not any(real.is_relative_to(root) for root in real_roots):
            raise ModelNotFound(f"{path.name}: {entry.name} points outside the operator's model folders")


def _check_architecture(name: str, config: dict[str, Any]) -> None:
    kind = config.get("model_type")
    if config.get("is_encoder_decoder"):
        raise UnsupportedModel(f"{name}: {kind} is an encoder-decoder; teacher and student must be causal decoders")
    if "vision_config" in config or "audio_config" in config:
        raise UnsupportedModel(f"{name}: {kind} also takes images or sound; use a text-only decoder")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UnsupportedModel(f"{name}: model_type {kind!r} is not a causal language model of transformers")
    if config.get("quantization_config"):
        raise UnsupportedModel(f"{name}: its weights are quantised; use the unquantised model")


def _check_weights(path: Path) -> None:
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").is_file():
        return
    if not index.is_file():
        pickles = [file.name for pattern in _PICKLES for file in path.glob(pattern)]
        found = f"only {', '.join(sorted(pickles)[:3])}" if pickles else "no weights"
        raise UnsafeModelFormat(f"{path.name}: no model.safetensors ({found}); convert it to safetensors first")
    weight_map = _read(index).get("weight_map")
    shards = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    for shard in sorted(map(str, shards)):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise UnsafeModelFormat(
                f"{path.name}: the weight index names {shard!r}, which is no safetensors file beside it"
            )
        if not (path / shard).is_file():
            raise UnsafeModelFormat(f"{path.name}: the weight file {shard} is missing")
    if not shards:
        raise UnsafeModelFormat(f"{path.name}: its weight index names no file")


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes()) if file.stat().st_size <= _MAX_JSON_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{file.parent.name}: {file.name} is not a JSON object")
    return value
