"""Two processes take the steps of one: replicated and sharded, resumed by fewer and by more, stopped, failed and killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cpd_engine import checkpoint
from cpd_engine.fleet import ALONE, dealt_back, shares
from cpd_engine.scoring import cross_entropies
from tests.learning import fleet_steps
from tests.learning.engine_runs import Event, measured, recipe, run_to_end, run_until, start
from tests.learning.fleet_steps import SAVED, SIZES, TRAININGS
from tests.learning.small_models import CPU, decoder, samples

FORMS = ("replicated", "sharded")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """Every training by one process."""
    return {name: fleet_steps.train(folder, f"{name}-alone", ALONE, **options) for name, options in TRAININGS.items()}


@pytest.fixture(scope="module")
def found(folder: Path, alone: dict[str, Any]) -> Any:
    """What two ranks found, started once for all tests."""
    program = (
        "import sys; from cpd_engine.launch import launch; "
        "sys.exit(launch([sys.executable, '-m', 'tests.learning.fleet_steps', sys.argv[1]], 2, events=sys.stdout.buffer))"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "found.json").read_text())


def _assert_same(these: dict[str, Any], those: dict[str, Any], *, first: int = 0) -> None:
    assert len(these["steps"]) == len(SIZES) - first
    for one, other in zip(these["steps"], those["steps"][first:], strict=True):
        for what in ("loss", "ce", "kd", "grad_norm", "sample_ce"):
            np.testing.assert_allclose(one[what], other[what], rtol=0, atol=TOLERANCE, err_msg=what)
        assert (one["tokens"], one["processed_tokens"]) == (other["tokens"], other["processed_tokens"])
    assert these["weights"].keys() == those["weights"].keys()
    for name, values in these["weights"].items():
        np.testing.assert_allclose(values, those["weights"][name], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRAININGS)
def test_two_ranks_take_the_steps_of_one_process(alone: Any, found: Any, name: str, form: str) -> None:
    _assert_same(found[f"{name}/{form}"], alone[name])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRAININGS)
def test_a_state_of_one_process_is_resumed_by_two_ranks(alone: Any, found: Any, name: str, form: str) -> None:
    _assert_same(found[f"{name}/{form}/resumed"], alone[name], first=SAVED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRAININGS)
def test_a_state_of_two_ranks_is_resumed_by_one_process(
    folder: Path, alone: Any, found: Any, name: str, form: str
) -> None:
    _assert_same(fleet_steps.resume(folder, f"{name}-{form}", ALONE, **TRAININGS[name]), alone[name], first=SAVED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRAININGS)
def test_a_state_has_the_same_form_whoever_wrote_it(folder: Path, found: Any, name: str, form: str) -> None:
    one, two = (folder / f"{name}-{by}" / checkpoint.state_name(SAVED) for by in ("alone", form))
    for file in ("weights", "optimizer"):
        shapes = [
            {key: (t.shape, t.dtype) for key, t in checkpoint.read_tensors(path / f"{file}.safetensors").items()}
            for path in (one, two)
        ]
        assert shapes[0] == shapes[1]
    assert checkpoint.read_json(one / "state.json") == checkpoint.read_json(two / "state.json")
    assert checkpoint.read_tensors(two / "generators.safetensors").keys() == {"cpu", "rank-1/cpu"}


def test_a_pass_that_others_have_joined_is_not_made_again(found: Any) -> None:
    assert "in a pass that other processes had joined" in found["short together"]


def test_a_rank_short_of_memory_halves_its_micro_batches_and_the_steps_stay_the_same(alone: Any, found: Any) -> None:
    _assert_same(found["short of memory"], alone["untied"])
    roomy, narrow = found["short of memory"]["micro_batch_tokens"]
    assert narrow < 40 < roomy


def test_ranks_understand_the_same(tmp_path: Path, found: Any) -> None:
    first, second = found["agreements"]["by_rank"]
    assert first == second
    assert (first["asked"], first["nobody"], first["told"], first["broken_off"]) == (True, False, "by 0", True)
    np.testing.assert_allclose(
        first["scored"], cross_entropies(decoder(tmp_path), samples(7), runtime=CPU).sums, rtol=1e-6
    )


def test_shares_are_about_equal_in_weight_and_leave_nobody_out() -> None:
    random = np.random.default_rng(0)
    for count in (0, 1, 2, 7, 64):
        weights = random.integers(1, 500, size=count).tolist()
        for world in (1, 2, 3, 8):
            found = shares(weights, world)
            assert sorted(index for share in found for index in share) == list(range(count))
            loads = [sum(weights[index] for index in share) for share in found]
            assert max(loads) - min(loads) <= max(weights, default=0)


def test_what_is_dealt_comes_back_in_order() -> None:
    for count in range(6):
        for world in (1, 2, 3):
            assert dealt_back([list(range(count))[rank::world] for rank in range(world)]) == list(range(count))


QUICK: dict[str, Any] = {
    "teacher_sft": None,
    "epochs": 2,
    "evaluation": {"validation_rows": 3, "test_rows": 3, "generation": {"max_new_tokens": 4, "temperature": 1.0}},
    "checkpoints": {"every_steps": 3, "keep": 2},
}


def _ranks(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


def _at_step(step: int) -> Any:
    return lambda event: event["kind"] == "measured" and event["step"] == step


@pytest.mark.timeout(600)
def test_a_run_that_loses_a_rank_goes_on_sharded_and_then_alone_as_if_nothing_had_been(tmp_path: Path) -> None:
    for name in ("unbroken", "replicated", "sharded"):
        (tmp_path / name).mkdir()
    unbroken = run_to_end(start(recipe(tmp_path / "unbroken", **QUICK), tmp_path / "unbroken" / "out"))
    out = tmp_path / "out"

    events: list[Event] = []
    killed = start(recipe(tmp_path / "replicated", **QUICK, resources={"gpus": 2}), out)
    with killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            events.append(json.loads(line))
            if _at_step(4)(events[-1]):
                ranks = _ranks(killed)
                ranks[1].kill()
                break
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(ranks) == 2
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]

    spec = recipe(tmp_path / "sharded", **QUICK, resources={"gpus": 2, "sharding": "full"})
    stopped = start(spec, out)
    events += run_until(stopped, _at_step(7), signal.SIGTERM)
    assert stopped.returncode == 10
    assert events[-1]["kind"] == "stopped"
    assert (out / "train" / checkpoint.state_name(max(e["step"] for e in events if e["kind"] == "measured"))).exists()

    events += run_to_end(start(tmp_path / "unbroken" / "recipe.json", out))
    assert [event["processes"] for event in events if event["kind"] == "run_started"] == [2, 2, 1]
    wanted = {place: values["loss"] for place, values in measured(unbroken).items()}
    taken = [event for event in events if event["kind"] == "measured"]
    assert {(event["trained"], event["step"]) for event in taken} == wanted.keys()
    for event in taken:
        assert event["values"]["loss"] == pytest.approx(wanted[event["trained"], event["step"]], abs=TOLERANCE)


def test_what_a_rank_cannot_do_ends_the_run_with_its_word_and_its_code(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"sha256": "another", "config": {}}))
    process = start(recipe(tmp_path, **QUICK, resources={"gpus": 2}), out)
    output, _ = process.communicate()
    assert process.returncode == 20
    assert [json.loads(line)["code"] for line in output.splitlines()] == ["run_directory_mismatch"]


def test_more_processes_than_the_machine_has_places_are_refused(tmp_path: Path) -> None:
    process = start(recipe(tmp_path, resources={"gpus": 64}), tmp_path / "out")
    output, _ = process.communicate()
    assert process.returncode == 20
    (event,) = map(json.loads, output.splitlines())
    assert (event["kind"], event["code"]) == ("failed", "resources_unavailable")
    assert "64 asked" in event["message"]


@pytest.mark.timeout(600)
def test_two_machines_started_by_torchrun_are_one_run(tmp_path: Path) -> None:
    spec = recipe(tmp_path, **QUICK | {"epochs": 1}, resources={"gpus": 1, "nodes": 2})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    command = [sys.executable, "-m", *torchrun, "--rdzv-endpoint", endpoint, "--rdzv-id", "one run"]
    command += ["-m", "cpd_engine", "run", str(spec), "--out", str(tmp_path / "out")]
    machines = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [machine.communicate() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    (events,) = [output for output, _ in said if output]
    kinds = [json.loads(line)["kind"] for line in events.splitlines()]
    assert (kinds[0], kinds[-1]) == ("run_started", "finished")
    assert json.loads(events.splitlines()[0])["processes"] == 2


def test_one_machine_of_several_is_no_run(tmp_path: Path) -> None:
    process = start(recipe(tmp_path, resources={"nodes": 2}), tmp_path / "out")
    output, _ = process.communicate()
    assert process.returncode == 20
    assert json.loads(output)["code"] == "resources_unavailable"
    assert "torchrun" in json.loads(output)["message"]
