"""What an engine is made of and runs on, for whoever is to start it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from cpd_engine.errors import SandboxUnavailable
from cpd_engine.evaluation.sandbox import Sandbox

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "pyarrow")


def about(*, sandbox: bool) -> dict[str, Any]:
    """Versions, GPUs with their memory, CPU threads, and with `sandbox` whether it confines: "confines", or why not."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
        "devices": [_device(number) for number in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "sandbox": _trial() if sandbox else None,
    }


def _device(number: int) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(number)
    # From compute capability 8.0 on the hardware has it; torch would emulate it below.
    return {"name": found.name, "memory_bytes": found.total_memory, "bf16": found.major >= 8}


def _trial() -> str:
    try:
        Sandbox.open()
    except SandboxUnavailable as error:
        return str(error)
    return "confines"
