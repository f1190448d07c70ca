"""Where chance comes from and what a result depends on: named generators, their states as tensors, threads, versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy")


def derived_seed(seed: int, *names: str | int) -> int:
    """A seed of 63 bits for one named use of chance, unrelated to every other name's."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one named use of chance."""
    return torch.Generator().manual_seed(derived_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for one named use of chance."""
    return np.random.default_rng(derived_seed(seed, *names))


def capture_state() -> dict[str, Tensor]:
    """The states of torch's global generators (dropout draws from them), as uint8 tensors: the CPU's, and this process's GPU's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda:0"] = torch.cuda.get_rng_state()
    return states


def restore_state(states: Mapping[str, Tensor]) -> None:
    """Inverse of `capture_state`. States of devices that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda:0" in states:
        torch.cuda.set_rng_state(states["cuda:0"])


def be_deterministic(threads: int | None, device: torch.device, *, processes: int = 1) -> int:
    """Make equal inputs give equal bits; return the number of threads, on which the bits depend.

    `threads` are those of all `processes` of this run on this machine together; None: one for every core that this process may use.
    On a GPU operations without a deterministic variant only warn.
    """
    count = max(1, (threads or len(os.sched_getaffinity(0))) // processes)
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(mode=True, warn_only=device.type != "cpu")
    # Otherwise every torch.empty is filled with NaN first; nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set on the module's class
    return count


def versions() -> dict[str, str]:
    """Interpreter and libraries that the numbers depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def engine() -> dict[str, str | None]:
    """This project's own version and commit: that which it was installed from, or of the checkout it runs from, `-dirty` with changes.

    The commit is None where nobody can tell, as after an installation from a wheel.
    """
    return {"version": metadata.version("cpd"), "commit": _installed_commit() or _checked_out_commit()}


def _installed_commit() -> str | None:
    try:
        told = json.loads(metadata.distribution("cpd").read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    commit = told.get("vcs_info", {}).get("commit_id")
    return commit if isinstance(commit, str) else None


def _checked_out_commit() -> str | None:
    root, git = Path(__file__).resolve().parents[1], shutil.which("git")
    # Without this an unrelated repository around an installed package would answer.
    if git is None or not (root / ".git").exists():
        return None
    ask = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
