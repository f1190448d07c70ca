"""What each preset stands for, as literal values. docs/method.md ties every one to the paper's line or to a measurement."""

from __future__ import annotations

from typing import Any

# What the paper's baselines without a curriculum share (A.4.3).
_PLAIN: dict[str, Any] = {
    "epochs": 20,
    "tau_1": 1.0,
    "tau_n": 1.0,
    "alpha": 0.3,
    "mixing": {"kind": "fixed", "value": 0.0},
    "curriculum": "none",
    "difficulty": "ce_mean",
    "subset_repeat": 1,
}

# Progressive overload (A.4.3): 25, 50, 75 and 100 % of the samples for 8 epochs each, as many steps as 20 epochs over all of them.
_POCL: dict[str, Any] = {
    **_PLAIN,
    "epochs": 32,
    "tau_n": 2.0,
    "alpha": (0.3, 0.2, 0.1, 0.0),
    "curriculum": "baby_step",
    "difficulty": "rank_fusion",
}

# CPD with t = (e-1)/n, so that the last epoch, the one with all the samples, still distils something.
_CPD: dict[str, Any] = {
    "epochs": 20,
    "tau_1": 1.0,
    "tau_n": 2.0,
    "alpha": 0.3,
    "divergence": "pmtd",
    "mixing": {"kind": "open"},
    "curriculum": "calibrated",
    "difficulty": "ce_mean",
    "subset_repeat": 2,
}

# Half of the answers by the student itself, and no cross-entropy (A.4.3).
_ON_POLICY: dict[str, Any] = {"alpha": 0.0, "policy": {"kind": "on", "student_fraction": 0.5}}

# The best that was measured (docs/decisions/0022), and the service's default: KLD at a temperature of 4. No curriculum, moving target or
# rising temperature was shown to add to it.
_RECOMMENDED: dict[str, Any] = {**_PLAIN, "divergence": "kld", "tau_1": 4.0, "tau_n": 4.0}

PRESETS: dict[str, dict[str, Any]] = {
    "recommended": _RECOMMENDED,
    "cpd": _CPD,
    # CPD as printed (section 3.3): t = e/n reaches 1 in the last epoch, whose distillation term is then identically zero.
    "paper": {**_CPD, "mixing": {"kind": "linear"}},
    "kld": {**_PLAIN, "divergence": "kld"},
    "rkl": {**_PLAIN, "divergence": "rkl"},
    "tvd": {**_PLAIN, "divergence": "tvd"},
    "jsd": {**_PLAIN, "divergence": "jsd", "constants": {"beta": 0.5}},
    "skl": {**_PLAIN, "divergence": "skl", "constants": {"beta": 0.5}},
    "srkl": {**_PLAIN, "divergence": "srkl", "constants": {"beta": 0.5}},
    "abkd": {**_PLAIN, "divergence": "abkd", "constants": {"alpha": 0.2, "beta": 0.7}},
    # Here t is the weight of the teacher, which the paper lets rise linearly to 1.
    "taid": {**_PLAIN, "divergence": "taid", "mixing": {"kind": "linear"}},
    "kld_pocl": {**_POCL, "divergence": "kld"},
    "srkl_pocl": {**_POCL, "divergence": "srkl", "constants": {"beta": 0.5}},
    "tvd_pocl": {**_POCL, "divergence": "tvd"},
    # The hardest samples for the student beside the teacher, ever fewer of them.
    "dakd": {**_PLAIN, "divergence": "bdl", "constants": {"lam": 0.9}, "curriculum": "dakd", "difficulty": "dds"},
    "gkd": {**_PLAIN, "divergence": "jsd", "constants": {"beta": 0.5}, **_ON_POLICY},
    "cpd_on_policy": {**_CPD, **_ON_POLICY},
    "sft": {**_PLAIN, "divergence": "sft", "alpha": 1.0},
}
