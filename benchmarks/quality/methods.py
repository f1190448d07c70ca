"""The systems that are compared, as changes to a job's spec, and the variants that take them apart."""

from __future__ import annotations

from typing import Any

# Checkpoints are validated four times in every run, whatever the number of its epochs.
_STAGED: dict[str, Any] = {"evaluation": {"every_epochs": 8}}
_TAUGHT: dict[str, Any] = {"difficulty": "teacher_ce", "curriculum": "calibrated_affine", "min_fraction": 0.5}
SYSTEMS: dict[str, dict[str, Any]] = {
    "sft": {"preset": "sft"},
    "kld": {"preset": "kld"},
    "rkl": {"preset": "rkl"},
    "tvd": {"preset": "tvd"},
    "jsd": {"preset": "jsd"},
    "skl": {"preset": "skl"},
    "srkl": {"preset": "srkl"},
    "abkd": {"preset": "abkd"},
    "taid": {"preset": "taid"},
    "kld_pocl": {"preset": "kld_pocl", **_STAGED},
    "srkl_pocl": {"preset": "srkl_pocl", **_STAGED},
    "tvd_pocl": {"preset": "tvd_pocl", **_STAGED},
    "dakd": {"preset": "dakd"},
    "gkd": {"preset": "gkd"},
    "cpd_on_policy": {"preset": "cpd_on_policy"},
    "paper": {"preset": "paper"},
    "cpd": {"preset": "cpd"},
    "recommended": {"preset": "recommended"},
    # What might have become the recommended preset, with temperatures of its own and with the one that suited both families of strings.
    "taught": {"preset": "kld", **_TAUGHT},
    "taught_at_4": {"preset": "kld", "tau_1": 4.0, "tau_n": 4.0, **_TAUGHT},
    "taught_abkd": {"preset": "abkd", **_TAUGHT},
}
# Without a temperature to choose, or with one that is their own.
UNTEMPERED = frozenset({"sft", "recommended", "taught_at_4"})
# Those that the short form runs.
SHORT = ("kld", "srkl", "srkl_pocl", "taught", "paper", "sft")

_KLD = {"preset": "kld"}
# One change each to `kld`, at the temperature and learning rate chosen for that: which part of CPD does what.
ABLATIONS: dict[str, dict[str, Any]] = {
    "curriculum by the student, no floor": {**_KLD, "curriculum": "calibrated", "difficulty": "ce_mean"},
    "curriculum by the student, from half": {**_KLD, **_TAUGHT, "difficulty": "ce_mean"},
    "curriculum by the teacher, no floor": {**_KLD, "curriculum": "calibrated", "difficulty": "teacher_ce"},
    "curriculum by the teacher, from half": {**_KLD, **_TAUGHT},
    "target fades to 0.3": {**_KLD, "divergence": "pmtd", "mixing": {"kind": "open", "end": 0.3}},
    "target fades to 1": {**_KLD, "divergence": "pmtd", "mixing": {"kind": "linear"}},
    "without tau squared": {**_KLD, "tau_squared": False},
    "without CE": {**_KLD, "alpha": 0.0},
    "temperature 1, KD as heavy": {**_KLD, "tau_1": 1.0, "tau_n": 1.0, "alpha": "as heavy"},
}


def heavy_alpha(alpha: float, tau: float) -> float:
    """α that at τ = 1 weighs KD against CE as α does with τ²: (1−α')/α' = τ²(1−α)/α."""
    return alpha / (alpha + tau**2 * (1.0 - alpha))
