"""What each preset stands for, as literal values. docs/method.md ties every one to the paper's line or to a measurement."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # CPD with t = (e-1)/n, so that the last epoch, the one with all the samples, still distils something.
    "cpd": {
        "epochs": 20,
        "tau_1": 1.0,
        "tau_n": 2.0,
        "alpha": 0.3,
        "divergence": "pmtd",
        "mixing": {"kind": "open"},
        "curriculum": "calibrated",
        "difficulty": "ce_mean",
        "subset_repeat": 2,
    },
    # CPD as printed (section 3.3): t = e/n reaches 1 in the last epoch, whose distillation term is then identically zero.
    "paper": {
        "epochs": 20,
        "tau_1": 1.0,
        "tau_n": 2.0,
        "alpha": 0.3,
        "divergence": "pmtd",
        "mixing": {"kind": "linear"},
        "curriculum": "calibrated",
        "difficulty": "ce_mean",
        "subset_repeat": 2,
    },
    "kld": {
        "epochs": 20,
        "tau_1": 1.0,
        "tau_n": 1.0,
        "alpha": 0.3,
        "divergence": "kld",
        "mixing": {"kind": "fixed", "value": 0.0},
        "curriculum": "none",
        "difficulty": "ce_mean",
        "subset_repeat": 1,
    },
    "rkl": {
        "epochs": 20,
        "tau_1": 1.0,
        "tau_n": 1.0,
        "alpha": 0.3,
        "divergence": "rkl",
        "mixing": {"kind": "fixed", "value": 0.0},
        "curriculum": "none",
        "difficulty": "ce_mean",
        "subset_repeat": 1,
    },
    "sft": {
        "epochs": 20,
        "tau_1": 1.0,
        "tau_n": 1.0,
        "alpha": 1.0,
        "divergence": "sft",
        "mixing": {"kind": "fixed", "value": 0.0},
        "curriculum": "none",
        "difficulty": "ce_mean",
        "subset_repeat": 1,
    },
}
