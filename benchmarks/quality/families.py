"""The families of tasks on which methods are compared: what is learned from what, for how long, and how it is judged."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`spec`: the job spec that every method starts from, without models and data. `corrupted`: share of the training and validation
    responses replaced by another row's of the same kind. `steps`: optimizer steps of every run. `metric` chooses checkpoints and
    settings on validation, and is the first one reported on test. Settings are chosen by `tuning_seeds`, scores are those of `seeds`;
    no two families share a seed, nor the draw of test rows (`test_seed`), so that each is evidence of its own. `settled_in`: the family
    whose validation chose the settings, where this one only confirms what that one showed. `models`: digest of the teacher's and the
    student's weights, empty until they are made.
    """

    name: str
    about: str
    metric: str
    corrupted: float
    training_rows: int
    validation_rows: int
    test_rows: int
    steps: int
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    test_seed: int
    taus: tuple[tuple[float, float], ...]
    learning_rates: tuple[float, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    settled_in: str = ""
    models: str = ""

    @property
    def base_rate(self) -> float:
        """The learning rate at which temperatures are chosen."""
        return self.learning_rates[len(self.learning_rates) // 2]

    @property
    def setup(self) -> str:
        """A hash of what a run's result hangs on beside its unit: runs of another setup are not of this study."""
        grids = {"about", "seeds", "tuning_seeds", "taus", "learning_rates", "settled_in"}
        decisive = {name: value for name, value in asdict(self).items() if name not in grids}
        return sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


_TASKS: dict[str, Any] = {
    "template": "chat",
    "max_length": 128,
    "threads": 1,
    "optimizer": {"batch_size": 8, "weight_decay": 0.05, "beta_2": 0.98},
    "evaluation": {
        "validation_metric": "exact_match",
        "every_epochs": 5,
        "generation": {"max_new_tokens": 24, "batch_size": 250},
    },
    "checkpoints": {"every_steps": 100_000, "keep": 1},
}
_STRINGS: dict[str, Any] = {
    "metric": "exact_match",
    "training_rows": 500,
    "validation_rows": 500,
    "test_rows": 2000,
    "steps": 800,
    # Constant ones, and ones that rise from 1 as the paper's do.
    "taus": ((1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (4.0, 4.0), (8.0, 8.0)),
    "learning_rates": (2.5e-4, 5e-4, 1e-3),
    "spec": _TASKS,
}
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="tasks",
            about="the demo's tasks, 500 training rows",
            corrupted=0.0,
            tuning_seeds=(101, 102),
            seeds=(1, 2, 3, 4, 5),
            test_seed=7,
            **_STRINGS,
        ),
        Family(
            name="tasks_corrupted",
            about="the same with a quarter of the responses corrupted",
            corrupted=0.25,
            tuning_seeds=(111, 112),
            seeds=(11, 12, 13, 14, 15),
            test_seed=8,
            **_STRINGS,
        ),
        # What the first two families showed, once more: settings from there, seeds and test rows that nobody had seen when they were fixed.
        Family(
            name="tasks_fresh",
            about="the demo's tasks once more: settings chosen before, fresh seeds and test rows",
            corrupted=0.0,
            tuning_seeds=(),
            seeds=(31, 32, 33, 34, 35),
            test_seed=17,
            settled_in="tasks",
            **_STRINGS,
        ),
        Family(
            name="tasks_corrupted_fresh",
            about="a quarter of the responses corrupted, once more: settings chosen before, fresh seeds and test rows",
            corrupted=0.25,
            tuning_seeds=(),
            seeds=(41, 42, 43, 44, 45),
            test_seed=18,
            settled_in="tasks_corrupted",
            **_STRINGS,
        ),
        Family(
            name="dolly",
            about="Dolly rows, SmolLM2-135M-Instruct to itself without 18 of its 30 layers",
            metric="ce",
            corrupted=0.0,
            training_rows=128,
            validation_rows=60,
            test_rows=200,
            steps=64,
            tuning_seeds=(121,),
            seeds=(21, 22, 23),
            test_seed=9,
            taus=((1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (4.0, 4.0)),
            learning_rates=(6e-4, 3e-4),
            spec={
                "template": "chat",
                "max_length": 128,
                "threads": 1,
                "precision": "fp32",
                "optimizer": {"batch_size": 4, "warmup_fraction": 0.05},
                "evaluation": {
                    "validation_metric": "ce",
                    "every_epochs": 5,
                    "generation": {"max_new_tokens": 48, "batch_size": 60},
                },
                "checkpoints": {"every_steps": 100_000, "keep": 1},
            },
        ),
    )
}
