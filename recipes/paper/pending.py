"""What the engine does not know yet, by the experiment's members that wait for it.

A test holds this list to what does not validate: an entry goes when what it waits for has come.
"""

from __future__ import annotations

from collections.abc import Mapping

_GKD = {"GKD": "preset gkd"}
_ON_POLICY = {"CPD-on-policy": "preset cpd_on_policy"}
_ADAPTIVE = {"adaptive": "mixing adaptive"}
_GKD_AT_EVERY_RATE = {f"GKD-{rate}": "preset gkd" for rate in ("lr5e-4", "lr1e-4", "lr5e-5")}

# Experiment to the labels of its members to what each waits for.
PENDING: Mapping[str, Mapping[str, str]] = {
    "table1": _GKD,
    "table2-math": _GKD,
    "table2-code": _GKD,
    "table5c-gpt2": _ADAPTIVE,
    "table5c-math": _ADAPTIVE,
    "table5c-code": _ADAPTIVE,
    "table6-gpt2": _GKD,
    "table6-openllama2": _GKD,
    "table7": _GKD,
    "search-gpt2": _GKD_AT_EVERY_RATE,
    "search-qwen2.5": _GKD_AT_EVERY_RATE,
    "search-openllama2": _GKD_AT_EVERY_RATE,
    "on-policy": _GKD | _ON_POLICY,
    "methods": _GKD | _ON_POLICY,
}

# Whether a job may name `evaluation.suites`; then every expansion carries those of suites.yaml.
SUITES = False
