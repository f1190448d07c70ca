"""A process of its own that finds or fills kept states: `python -m tests.learning.filler ROOT`, a line for whatever it does."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch

from cpd_engine.models.decoder import Decoder
from cpd_engine.states.folder import Folder
from cpd_engine.states.kept import Kept
from cpd_engine.states.key import Key
from cpd_engine.states.layout import lay_out
from cpd_engine.states.once import Question
from cpd_engine.states.records import HiddenRecords
from cpd_engine.states.shelf import Watch
from tests.learning.small_models import CPU, decoder, samples

SAMPLES = 60
# Some 40 packs.
PACK_TOKENS = 24
KEY = Key(
    teacher="t",
    data="d",
    template="paper",
    max_length=64,
    vocabulary=300,
    dtype="torch.float32",
    top_k=None,
    temperatures=(),
    numerics=(),
)


def say(word: str, *values: object) -> None:
    sys.stdout.write(" ".join(map(str, (word, *values))) + "\n")
    sys.stdout.flush()


def question(models: Path) -> Question:
    """A tiny teacher and what it is asked."""

    def load() -> Decoder:
        say("loaded")
        return decoder(models, layers=2, seed=5)

    return Question(
        samples=samples(SAMPLES),
        layout=lay_out(samples(SAMPLES), PACK_TOKENS),
        records=HiddenRecords(width=32, dtype=torch.float32),
        runtime=CPU,
        load=load,
    )


def kept(root: Path, models: Path) -> Kept:
    """Every pack becomes a block, as the clock leaps."""
    watch = Watch(
        waiting=lambda done: say("waiting", done),
        checking=lambda done, of: say("checked", done, of),
        warn=lambda fault: say("warned", fault),
        clock=itertools.count(step=100).__next__,
    )
    return question(models).on_disk(
        Folder(root, 10**9), KEY, head_bytes=0, watch=watch, on_progress=lambda done, of: say("filled", done, of)
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    kept(Path(sys.argv[1]), Path(sys.argv[2]))
    say("kept")
