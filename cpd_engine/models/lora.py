"""LoRA on every linear layer of attention and MLP (paper A.4.3), through peft; the head is left alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.pytorch_utils import Conv1D

from cpd_engine.config import LoraSpec
from cpd_engine.errors import ConfigInvalid
from cpd_engine.models.decoder import Decoder


def attach_lora(decoder: Decoder, spec: LoraSpec, *, seed: int) -> Decoder:
    """The decoder with fresh adapters on all linear layers but the head; only they are trainable. Changes the model in place.

    The matrices A are drawn from `seed`, the matrices B are zero, so what the model computes does not change yet.
    """
    if decoder.adapter is not None:
        raise ConfigInvalid("lora: an adapter is already attached")
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # peft computes with it as a number
        lora_dropout=spec.dropout,
        # GPT-2 stores its matrices transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in decoder.model.modules()),
    )
    with torch.random.fork_rng(devices=[] if decoder.device.type == "cpu" else [decoder.device]):
        torch.manual_seed(seed)
        adapter: Any = get_peft_model(decoder.model, config)
    return dataclasses.replace(decoder, adapter=adapter)


def merge_lora(decoder: Decoder) -> Decoder:
    """The decoder with W + (alpha/rank)·B·A in place of every adapted W and no adapter, in place; itself where it has none."""
    if decoder.adapter is None:
        return decoder
    assert isinstance(decoder.adapter, PeftModel)
    model = decoder.adapter.merge_and_unload()
    # What peft leaves behind would make the saved model look like an adapter.
    for name in ("peft_config", "_hf_peft_config_loaded"):
        if name in vars(model):
            delattr(model, name)
    return dataclasses.replace(decoder, model=model, adapter=None)
