"""A teacher asked once: what is kept is what its body says, whoever was killed, damaged a file or came at the same time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cpd_engine.data.batches import Batch, pack
from cpd_engine.models.decoder import Decoder
from cpd_engine.objective import Taught, TopK
from cpd_engine.runtime import Runtime
from cpd_engine.scoring import cross_entropies
from cpd_engine.states import entry
from cpd_engine.states.folder import Folder
from cpd_engine.states.kept import Kept
from cpd_engine.states.layout import lay_out
from cpd_engine.states.once import Question, WidthUnexpected
from cpd_engine.states.records import HiddenRecords
from cpd_engine.states.shelf import Watch
from cpd_engine.states.topk import TopKRecords
from cpd_engine.teacher import KeptTeacher, Teacher, Teaches
from tests.learning import filler
from tests.learning.small_models import CPU, decoder, samples

BF16 = Runtime(device=torch.device("cpu"), precision="bf16", threads=1)


def _ignore(done: int, of: int) -> None:
    pass


def _states_file(root: Path) -> bytes:
    return (root / filler.KEY.name / "states.bin").read_bytes()


def _start(root: Path, models: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.learning.filler", str(root), str(models)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _kill_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """What the process said before it was killed, which was at once after so many lines; or all, where it ended before."""
    said = []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if len(said) == lines:
                process.send_signal(signal.SIGKILL)
                break
    return said


@pytest.fixture
def unbroken(tmp_path: Path) -> bytes:
    """states.bin of a fill that nobody disturbed."""
    filler.kept(tmp_path / "whole", tmp_path / "models").close()
    return _states_file(tmp_path / "whole")


def test_a_fill_killed_again_and_again_ends_in_the_bytes_of_an_unbroken_one(tmp_path: Path, unbroken: bytes) -> None:
    root = tmp_path / "broken"
    draw = random.Random(1)
    said: list[str] = []
    killed = []
    for _ in range(50):
        process = _start(root, tmp_path / "models")
        said += _kill_after(process, draw.randrange(8, 18))
        killed.append(process.returncode)
        if said[-1] == "kept":
            break
    assert killed.count(-signal.SIGKILL) >= 2
    assert _states_file(root) == unbroken
    filler.kept(root, tmp_path / "models").close()
    # No more than the pack of each kill was done twice, and none was left out.
    done = [int(line.split()[1]) for line in said if line.startswith("filled")]
    assert sorted(set(done)) == sorted(set(_filled_samples()))
    assert len(done) - len(set(done)) <= killed.count(-signal.SIGKILL)


def _filled_samples() -> list[int]:
    sizes = [len(pack) for pack in lay_out(samples(filler.SAMPLES), filler.PACK_TOKENS).packs]
    return [sum(sizes[: at + 1]) for at in range(len(sizes))]


def test_processes_that_race_for_the_same_states_fill_them_once(tmp_path: Path, unbroken: bytes) -> None:
    root = tmp_path / "raced"
    processes = [_start(root, tmp_path / "models") for _ in range(2)]
    said = [process.communicate()[0].split("\n") for process in processes]
    assert [lines[-2] for lines in said] == ["kept"] * 2
    assert sum(lines.count("loaded") for lines in said) == 1
    assert _states_file(root) == unbroken


def test_a_waiting_process_goes_on_where_the_filler_was_killed(tmp_path: Path, unbroken: bytes) -> None:
    root = tmp_path / "inherited"
    first = _start(root, tmp_path / "models")
    assert first.stdout is not None
    while not first.stdout.readline().startswith("filled"):
        pass
    first.send_signal(signal.SIGSTOP)
    second = _start(root, tmp_path / "models")
    assert second.stdout is not None
    assert second.stdout.readline().startswith("waiting")
    with first:
        first.kill()
    rest = second.communicate()[0].split("\n")
    assert "loaded" in rest
    assert rest[-2] == "kept"
    assert _states_file(root) == unbroken


def test_a_stop_is_obeyed_while_another_fills(tmp_path: Path) -> None:
    root = tmp_path / "states"
    first = _start(root, tmp_path / "models")
    assert first.stdout is not None
    while not first.stdout.readline().startswith("filled"):
        pass
    first.send_signal(signal.SIGSTOP)

    class Stop(Exception):
        pass

    def waiting(done: int) -> None:
        raise Stop

    with first:
        with pytest.raises(Stop):
            _on_disk(root, tmp_path / "models", waiting=waiting)
        first.kill()


def _on_disk(root: Path, models: Path, *, waiting: Callable[[int], None]) -> Kept:
    watch = Watch(waiting=waiting, checking=_ignore, warn=lambda fault: filler.say("warned", fault), clock=lambda: 0.0)
    question = filler.question(models)
    return question.on_disk(Folder(root, 10**9), filler.KEY, head_bytes=0, watch=watch, on_progress=_ignore)


@pytest.mark.parametrize("damage", ["flip", "cut", "head"])
def test_damaged_states_are_filled_anew_with_a_warning(
    tmp_path: Path, unbroken: bytes, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "whole"
    name = "head.json" if damage == "head" else "states.bin"
    file = root / filler.KEY.name / name
    content = file.read_bytes()
    file.write_bytes(content[:-40] if damage == "cut" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    capsys.readouterr()
    kept = filler.kept(root, tmp_path / "models")
    said = capsys.readouterr().out
    assert "warned" in said
    assert "loaded" in said
    assert _states_file(root) == unbroken
    entry.verify(root / filler.KEY.name, filler.question(tmp_path / "models").form)
    kept.close()


def test_states_found_whole_load_no_model(tmp_path: Path, unbroken: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    filler.kept(tmp_path / "whole", tmp_path / "models").close()
    assert "loaded" not in capsys.readouterr().out


def _question(mentor: Decoder, runtime: Runtime, records: HiddenRecords | TopKRecords) -> Question:
    return Question(
        samples=samples(20), layout=lay_out(samples(20), 64), records=records, runtime=runtime, load=lambda: mentor
    )


def _mentor(folder: Path, kind: str, runtime: Runtime) -> Decoder:
    found = decoder(folder, kind=kind, layers=2, seed=5)
    found.model.to(dtype=runtime.frozen_dtype)  # type: ignore[call-arg]  # the wrapper hides nn.Module's signature
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("runtime", [CPU, BF16], ids=["fp32", "bf16"])
def test_kept_logits_are_those_of_the_body(tmp_path: Path, kind: str, runtime: Runtime) -> None:
    mentor = _mentor(tmp_path, kind, runtime)
    kept = _question(mentor, runtime, HiddenRecords(width=32, dtype=runtime.frozen_dtype)).in_memory(_ignore)
    batch = pack([samples(20)[i] for i in (7, 3, 3, 19)])
    expected, found = (_logits(teacher, batch) for teacher in (Teacher(mentor, runtime), KeptTeacher(kept)))
    # Logits up to 8, to which bf16 gives 8 bits: other company in a batch moves the last one.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if runtime is CPU else 6e-2)


def _logits(teacher: Teaches, batch: Batch) -> Tensor:
    taught = teacher.taught(batch, 1.0)
    assert isinstance(taught, Taught)
    logits_NV = torch.empty(len(batch.targets), taught.head.vocabulary)
    with torch.no_grad():
        taught.head.project(taught.hidden_ND, logits_NV)
    return logits_NV


@pytest.mark.parametrize("top_k", [None, 4])
def test_the_teacher_s_scores_come_from_what_is_kept(tmp_path: Path, top_k: int | None) -> None:
    mentor = decoder(tmp_path, layers=2, seed=5)
    records = TopKRecords(k=top_k, temperatures=(1.5,)) if top_k else HiddenRecords(width=32, dtype=torch.float32)
    kept = _question(mentor, CPU, records).in_memory(_ignore)
    expected = cross_entropies(mentor, samples(20), runtime=CPU)
    assert kept.cross_entropies(samples(20)) == pytest.approx(expected.sums, rel=1e-5)


def test_the_largest_logits_are_kept_sample_by_sample(tmp_path: Path) -> None:
    mentor = decoder(tmp_path, layers=2, seed=5)
    kept = _question(mentor, CPU, TopKRecords(k=4, temperatures=(1.0, 2.0))).in_memory(_ignore)
    batch = pack([samples(20)[i] for i in (7, 3, 3, 19)])
    whole = torch.log_softmax(_logits(Teacher(mentor, CPU), batch) / 2.0, dim=-1)
    found = KeptTeacher(kept).taught(batch, 2.0)
    assert isinstance(found, TopK)
    torch.testing.assert_close(found.log_p_NK, whole.topk(4, dim=-1).values, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.log_p_NK, whole.gather(-1, found.ids_NK), rtol=0, atol=1e-5)


def test_the_body_is_gone_once_its_states_are_in_memory(tmp_path: Path) -> None:
    seen: list[weakref.ref[object]] = []

    def load() -> Decoder:
        found = decoder(tmp_path, layers=2, seed=5)
        seen.extend(map(weakref.ref, found.model.modules()))
        return found

    question = Question(
        samples=samples(20),
        layout=lay_out(samples(20), 64),
        records=HiddenRecords(width=32, dtype=torch.float32),
        runtime=CPU,
        load=load,
    )
    kept = question.in_memory(_ignore)
    assert seen
    assert [reference() for reference in seen if reference() is not None] == []
    assert len(kept.cross_entropies(samples(20))) == 20


def test_a_head_of_another_width_than_was_told_is_named(tmp_path: Path) -> None:
    question = _question(decoder(tmp_path, seed=5), CPU, HiddenRecords(width=31, dtype=torch.float32))
    with pytest.raises(WidthUnexpected, match="32 and not 31"):
        question.in_memory(_ignore)


def test_memory_that_is_short_splits_a_pack_and_changes_nothing(tmp_path: Path) -> None:
    mentor = decoder(tmp_path, layers=2, seed=5)
    records = HiddenRecords(width=32, dtype=torch.float32)
    whole = _question(mentor, CPU, records).in_memory(_ignore)

    def narrow(module: object, args: tuple[object, ...], options: dict[str, Any]) -> None:
        if options["segments"].starts.numel() > 2:
            raise torch.OutOfMemoryError("the device holds one sample")

    handle = mentor.body.register_forward_pre_hook(narrow, with_kwargs=True)
    split = _question(mentor, CPU, records).in_memory(_ignore)
    handle.remove()
    batch = pack(samples(20))
    expected, found = (_logits(KeptTeacher(kept), batch) for kept in (whole, split))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
