"""What a model directory may hold: decided from its small JSON files before any weight is read or any class is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cpd_engine.errors import ModelNotFound, UnsafeModelFormat, UnsupportedModel

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_MAX_JSON_BYTES = 64 << 20
# Attention and experts by these names come from packages of this environment; any other name is a repository with code.
_IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_OF_A_PACKAGE = re.compile(r"[a-z0-9_]{1,40}")


def check_directory(path: Path) -> dict[str, Any]:
    """Refuse a directory that is not a causal LM in safetensors that needs no code of its own; its configuration.

    Raises:
        ModelNotFound: no directory, or no config.json in it.
        UnsafeModelFormat: code (`auto_map`, kernels), weights as pickles only, missing shards, shards outside the directory.
        UnsupportedModel: not a causal decoder of transformers, an adapter, or quantised.
    """
    if not (path / "config.json").is_file():
        raise ModelNotFound(f"{path.name}: no config.json; name a folder with a model in the transformers layout")
    config = _read(path / "config.json")
    tokenizer_config = path / "tokenizer_config.json"
    for told in (config, _read(tokenizer_config) if tokenizer_config.is_file() else {}):
        _check_code(path.name, told)
    if (path / "adapter_config.json").exists():
        # transformers would put the adapter on, from a pickle where it finds no safetensors.
        raise UnsupportedModel(f"{path.name}: it holds an adapter; merge that into the weights and take it away")
    _check_architecture(path.name, config)
    _check_weights(path)
    return config


def load_config(path: Path) -> Any:
    """The configuration of a checked directory as transformers has it, without code of its own and without a network."""
    return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)


def check_inside(path: Path, roots: Iterable[Path]) -> None:
    """ModelNotFound unless the directory and everything below it, symlinks followed, lie under one of the roots."""
    real_roots = [root.resolve() for root in roots]
    for entry in (path, *path.rglob("*")):
        if not any(_real(entry).is_relative_to(root) for root in real_roots):
            raise ModelNotFound(f"{path.name}: {entry.name} points outside the operator's model folders")


def _real(entry: Path) -> Path:
    try:
        return entry.resolve()
    except RuntimeError:  # links that lead to each other lead nowhere
        return Path("/")


def _check_code(name: str, told: dict[str, Any]) -> None:
    for key, value in _fields(told):
        if key == "auto_map":
            raise UnsafeModelFormat(f"{name}: it asks for code of its own (auto_map), which is never run")
        if _IMPLEMENTATION.fullmatch(key) and any(_OF_A_PACKAGE.fullmatch(text) is None for text in _texts(value)):
            raise UnsafeModelFormat(f"{name}: its {key} is a repository with code of its own, which is never run")


def _fields(told: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every field with its value, at whatever depth."""
    pending: list[Any] = [told]
    while pending:
        match pending.pop():
            case dict(fields):
                yield from fields.items()
                pending += fields.values()
            case list(values):
                pending += values


def _texts(value: Any) -> list[str]:
    """The values of a field that is one, or has one for each part of the model."""
    return [text for text in (value.values() if isinstance(value, dict) else [value]) if isinstance(text, str)]


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
