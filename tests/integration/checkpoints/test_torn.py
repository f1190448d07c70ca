"""Checkpoints that a kill, a cut or a flipped byte may have torn."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cpd_engine import checkpoint
from cpd_engine.errors import CheckpointCorrupt
from tests.integration.checkpoints.sealing_loop import seal

LOOP = Path(__file__).with_name("sealing_loop.py")
SEED = 20
KILLS = 60
PLACES = 40


def test_sixty_kills_at_any_moment_tear_no_sealed_directory_and_lose_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    command = [sys.executable, str(LOOP), str(tmp_path / "run"), str(SEED), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout}\n{done.stderr}"
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == KILLS
    newest = best = 0
    for kill in found:
        states = [step for name, step in kill["steps"].items() if name != "best"]
        now, best_now = max(states, default=0), kill["steps"].get("best", 0)
        assert now >= max(newest, kill["told"]), f"seed {SEED}: {kill}"
        assert best_now >= max(best, kill["told"]), f"seed {SEED}: {kill}"
        newest, best = now, best_now
    assert newest > 5, "some children lived to seal"
    assert sum(kill["drafts"] > 0 for kill in found) > 5, "some kills fell into the writing"


@pytest.mark.parametrize("damage", ["cut", "flip", "zero"])
def test_damage_at_any_place_of_any_file_is_found(tmp_path: Path, damage: str) -> None:
    chance = random.Random(SEED)
    path = tmp_path / "step-000001"
    seal(path, 1)
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        for _ in range(PLACES):
            at = chance.randrange(len(whole))
            file.write_bytes(damaged(whole, at, damage))
            with pytest.raises(CheckpointCorrupt):
                checkpoint.verify(path)
        file.write_bytes(whole)
    checkpoint.verify(path)


def damaged(whole: bytes, at: int, damage: str) -> bytes:
    """Cut off at that byte, with one bit of it flipped, or with nothing but zeros from there on."""
    match damage:
        case "cut":
            return whole[:at]
        case "flip":
            return whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        case _:
            return whole[:at] + bytes(len(whole) - at)
