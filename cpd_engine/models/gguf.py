"""One-time conversion of a GGUF file into a directory that plain transformers loads."""

from __future__ import annotations

from pathlib import Path

from cpd_engine.errors import ConfigInvalid, ModelNotFound


def convert(file: Path, out: Path) -> None:
    """Write the model of a GGUF file as safetensors with its tokenizer into `out`, weights dequantised to float32.

    Raises ModelNotFound where the file is missing, ConfigInvalid without the `gguf` package.
    """
    if not file.is_file():
        raise ModelNotFound(f"{file}: no such file; name a .gguf")
    try:
        import gguf  # noqa: F401 - transformers needs it and would fail later, less clearly
    except ImportError as error:
        raise ConfigInvalid("reading GGUF needs the package gguf: pip install 'cpd[gguf]'") from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )
    # Packed weights, the default, are slow on a CPU and cannot be trained.
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
