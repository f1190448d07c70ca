from __future__ import annotations

import numpy as np
import torch

from cpd_engine import repro


def test_each_name_has_a_chance_of_its_own_and_keeps_it() -> None:
    seeds = {repro.derived_seed(0, *name) for name in (("a",), ("b",), ("a", "b"), ("a", 1), ("a", 2))}
    assert len(seeds) == 5
    assert repro.derived_seed(1, "a") not in seeds
    assert repro.derived_seed(7, "student", "batches") == repro.derived_seed(7, "student", "batches")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_numpy_generators_repeat() -> None:
    first, second = (repro.numpy_generator(3, "rows").permutation(50) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_restored_state_draws_what_was_to_be_drawn() -> None:
    torch.manual_seed(5)
    state = repro.capture_state()
    drawn = torch.rand(4)
    torch.rand(100)
    repro.restore_state(state)
    assert torch.equal(torch.rand(4), drawn)
    assert all(tensor.dtype == torch.uint8 for tensor in state.values())


def test_versions_name_what_the_numbers_depend_on() -> None:
    assert repro.versions()["torch"].startswith("2.")
