"""The OpenAI-compatible door, spoken to by the official client as it is published, under strict validation of every answer."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from api.core.db import transaction, utc_now
from api.jobs import transitions
from api.jobs.moves import Failure
from api.openai.repeats import Try, earlier
from tests.backends import Backend
from tests.integration.http.api import SPEC, Api, serving

CHAT = b"".join(
    json.dumps(
        {"messages": [{"role": "user", "content": f"Add 1 and {i}."}, {"role": "assistant", "content": str(i + 1)}]}
    ).encode()
    + b"\n"
    for i in range(200)
)
TINY: dict[str, Any] = {"teacher": {"tiny": "gpt2"}, "distillation": {"preset": "kld"}}


@pytest.fixture
def client(api: Api) -> Iterator[OpenAI]:
    with speaking(api, "owner") as made:
        yield made


def speaking(api: Api, who: str, **options: Any) -> OpenAI:
    """The official client with that person's key."""
    return OpenAI(
        base_url=f"{api.url}/v1",
        api_key=api.keys[who],
        _strict_response_validation=True,
        **({"max_retries": 0} | options),
    )


def uploaded(client: OpenAI, name: str = "rows.jsonl") -> str:
    return client.files.create(file=(name, CHAT), purpose="fine-tune").id


def created(client: OpenAI, rows: str, **changed: Any) -> Any:
    request = {"model": "from-teacher:1", "training_file": rows, "extra_body": TINY} | changed
    return client.fine_tuning.jobs.create(**request)


def finished(api: Api, job_id: str) -> str:
    """The job ends well with weights and a report; the id of the weights' file."""
    hold = api.claim(job_id)
    measured = {"trained": "student", "step": 1, "total_steps": 1, "values": {"loss": 1.5}}
    api.say(hold, ("measured", measured), ("warned", {"code": "short", "message": "Few rows."}))
    api.seal(hold, "report", {"manifest.json": b"{}", "report.json": b'{"rows": 2}'}, role="phase")
    api.seal(hold, "step-000007", {"manifest.json": b"{}"}, role="training")
    api.seal(hold, "model", {"manifest.json": b"{}", "model.safetensors": b"weights"})
    api.succeed(hold)
    files = api.owner.get("/v1/files", params={"purpose": "fine-tune-results"}).json()["data"]
    return str(next(file["id"] for file in files if file["filename"] == f"{job_id}-model.tar"))


def test_rows_are_uploaded_listed_read_and_deleted(api: Api, client: OpenAI) -> None:
    first, second = uploaded(client, "a.jsonl"), uploaded(client, "b.jsonl")

    shown = client.files.retrieve(first)
    assert (shown.filename, shown.bytes, shown.purpose, shown.status) == (
        "a.jsonl", len(CHAT), "fine-tune", "processed",
    )  # fmt: skip
    assert shown.model_extra is not None
    assert shown.model_extra["dataset"]["rows"] == 200
    assert client.files.content(first).content == CHAT
    assert [file.id for file in client.files.list(limit=1)] == [second, first]
    assert [file.id for file in client.files.list(limit=1, order="asc")] == [first, second]
    assert list(client.files.list(purpose="fine-tune-results")) == []
    assert client.files.delete(first).deleted
    assert api.owner.get(f"/v1/datasets/{first}").status_code == 404
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(first)


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"files": {"file": ("a.jsonl", CHAT)}}, 422, "purpose"),
        ({"files": {"file": ("a.jsonl", CHAT)}, "data": {"purpose": "batch"}}, 422, "purpose"),
        ({"files": {"other": ("a.jsonl", b"{}")}, "data": {"purpose": "fine-tune"}}, 422, "file"),
        ({"files": [("file", ("a", CHAT)), ("file", ("b", CHAT))], "data": {"purpose": "fine-tune"}}, 422, "file"),
        ({"files": {"file": ("a\x7f", CHAT)}, "data": {"purpose": "fine-tune"}}, 422, "file"),
        ({"files": {"file": ("a", b"no rows")}, "data": {"purpose": "fine-tune"}}, 422, None),
        ({"files": {"file": ("a", CHAT)}, "data": {"purpose": "x" * 5000}}, 422, None),
        ({"files": {"file": ("a", b"x" * 250_000)}, "data": {"purpose": "fine-tune"}}, 413, None),
        ({"json": {"purpose": "fine-tune"}}, 415, None),
        ({"content": b"--b\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422, None),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422, None),
        (
            {
                "content": b"--b\r\nX-Long: " + b"x" * 5000 + b"\r\n\r\n\r\n--b--\r\n",
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            422,
            None,
        ),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_and_leaves_nothing(
    api: Api, form: dict[str, Any], status: int, param: str | None
) -> None:
    answer = api.owner.post("/v1/files", **form)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert api.owner.get("/v1/files").json()["data"] == []
    assert not list((api.backend.settings.scratch_dir / "uploads").glob("*"))


def test_a_job_is_told_in_their_words_with_ours_beside_them(client: OpenAI) -> None:
    rows = uploaded(client)
    job = created(
        client,
        rows,
        validation_file=rows,
        suffix="adder",
        seed=7,
        metadata={"team": "maths"},
        method={"type": "distillation", "distillation": {"hyperparameters": {"n_epochs": 5}}},
    )

    assert (job.status, job.model, job.training_file, job.validation_file) == ("queued", "from-teacher:1", rows, rows)
    assert (job.seed, job.metadata, job.error, job.result_files) == (7, {"team": "maths"}, None, [])
    assert (job.hyperparameters.n_epochs, job.hyperparameters.learning_rate_multiplier) == (5, 1.0)
    assert job.method.type == "supervised"
    ours = job.model_extra
    assert ours["teacher"] == "tiny:gpt2"
    assert (ours["distillation"]["name"], ours["distillation"]["resolved"]["preset"]) == ("adder", "kld")
    assert "warnings" in ours["distillation"]
    assert client.fine_tuning.jobs.retrieve(job.id).id == job.id


def test_hyperparameters_become_ours_and_auto_leaves_them_alone(client: OpenAI) -> None:
    rows = uploaded(client)
    given = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.3}
    job = created(client, rows, hyperparameters=given)
    auto = created(client, rows, hyperparameters=dict.fromkeys(given, "auto"))

    assert job.hyperparameters.model_dump(exclude_unset=True) == given
    optimizer = job.model_extra["distillation"]["resolved"]["optimizer"]
    assert (optimizer["batch_size"], optimizer["learning_rate"]) == (4, pytest.approx(1.5e-4))
    assert auto.hyperparameters.batch_size == 8


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"training_file": "file-abc"}, "training_file"),
        ({"model": "tiny:gpt2", "extra_body": {"teacher": {"tiny": "no such"}}}, "teacher"),
        ({"extra_body": {}}, "teacher"),
        ({"model": "from-teacher:0"}, "model"),
        ({"model": "tiny:gpt2", "extra_body": TINY | {"distillation": {"student": {"tiny": "llama"}}}}, "model"),
        ({"extra_body": TINY | {"distillation": {"tau_1": -1.0}}}, "distillation.tau_1"),
        ({"extra_body": TINY | {"distillation": {"no_such": 1}}}, "distillation.no_such"),
        ({"extra_body": TINY | {"distillation": {"dataset": {"train": "ds_12345678"}}}}, "training_file"),
        ({"extra_body": TINY | {"distillation": {"epochs": 2}}, "hyperparameters": {"n_epochs": 3}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"method": {"type": "dpo"}}, "method.type"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_a_422_under_the_name_the_client_knows(
    client: OpenAI, changed: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        created(client, uploaded(client), **changed)

    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")
    assert refused.value.request_id is not None


def test_what_the_operator_has_set_holds_where_the_client_is_silent(backend: Backend) -> None:
    defaults = {"preset": "rkl", "optimizer": {"batch_size": 16}}
    with (
        serving(backend.with_settings(openai_teacher="tiny:gpt2", openai_defaults=defaults)) as api,
        speaking(api, "owner") as client,
    ):
        rows = uploaded(client)
        silent = created(client, rows, extra_body=None)
        outspoken = created(
            client, rows, hyperparameters={"batch_size": 2}, extra_body={"distillation": {"preset": "kld"}}
        )

    assert silent.model_extra is not None
    assert outspoken.model_extra is not None
    assert (silent.model_extra["teacher"], silent.hyperparameters.batch_size) == ("tiny:gpt2", 16)
    assert silent.model_extra["distillation"]["resolved"]["preset"] == "rkl"
    assert outspoken.hyperparameters.batch_size == 2
    assert outspoken.model_extra["distillation"]["resolved"]["preset"] == "kld"


@pytest.mark.parametrize("defaults", [{"teacher": {"tiny": "gpt2"}}, {"tau_1": -1.0}, {"no_such": 1}])
def test_a_service_does_not_start_on_defaults_that_make_no_job(backend: Backend, defaults: dict[str, Any]) -> None:
    with (
        pytest.raises(ValueError, match="CPD_OPENAI_DEFAULTS"),
        serving(backend.with_settings(openai_defaults=defaults)),
    ):
        pass


def test_a_job_pauses_resumes_and_is_cancelled_under_strict_validation(client: OpenAI) -> None:
    jobs = client.fine_tuning.jobs
    job = created(client, uploaded(client))

    paused = jobs.pause(job.id)
    assert paused.model_extra is not None
    assert (paused.status, paused.model_extra["distillation"]["state"]) == ("queued", "paused")
    resumed = jobs.resume(job.id)
    assert resumed.model_extra is not None
    assert (resumed.status, resumed.model_extra["distillation"]["state"]) == ("queued", "queued")
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.ConflictError) as refused:
        client.with_options(max_retries=2).fine_tuning.jobs.pause(job.id)
    assert (refused.value.code, refused.value.response.headers["x-should-retry"]) == ("job_already_finished", "false")
    assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_jobs_are_listed_page_by_page_and_by_their_metadata(api: Api, client: OpenAI) -> None:
    rows = uploaded(client)
    ids = [created(client, rows, metadata={"n": str(n), "odd one, {really}": "x"}).id for n in range(3)]
    assert api.owner.post(
        "/v1/jobs/probe", json={"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}
    ).is_success
    jobs = client.fine_tuning.jobs

    assert [job.id for job in jobs.list(limit=1)] == ids[::-1]
    assert [job.id for job in jobs.list(limit=2, metadata={"n": "1"})] == [ids[1]]
    assert [job.id for job in jobs.list(metadata={"odd one, {really}": "x", "n": "2"})] == [ids[2]]
    assert list(jobs.list(metadata={"n": "7"})) == []
    for wrong in ({"after": "job_nosuch"}, {"after": ids[0] + "\x00"}, {"metadata": {'a"b': "c"}}):
        with pytest.raises(openai.UnprocessableEntityError):
            jobs.list(**wrong)


def test_a_finished_job_has_events_checkpoints_results_and_a_model(api: Api, client: OpenAI) -> None:
    job = created(client, uploaded(client))
    weights = finished(api, job.id)
    done = client.fine_tuning.jobs.retrieve(job.id)

    assert (done.status, done.fine_tuned_model) == ("succeeded", f"ft:{job.id}:model")
    assert done.finished_at is not None
    assert weights in done.result_files
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    told = [event.data["seq"] for event in events if isinstance(event.data, dict)]
    assert told == list(range(len(events), 0, -1))
    assert len({event.id for event in events}) == len(events)
    assert ("warn", "Few rows.") in [(event.level, event.message) for event in events]
    assert "Step 1/1 of student: training loss=1.5000" in [e.message for e in events if e.type == "metrics"]

    kept = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [checkpoint.fine_tuned_model_checkpoint for checkpoint in kept][:1] == [done.fine_tuned_model]
    assert kept[0].step_number == 7
    assert kept[0].metrics.model_extra == {"rouge_l": 40.5}

    with tarfile.open(fileobj=io.BytesIO(client.files.content(weights).content)) as archive:
        member = archive.extractfile("model.safetensors")
        assert member is not None
        assert member.read() == b"weights"
    results = {file.id: file for file in client.files.list(purpose="fine-tune-results")}
    assert set(results) == set(done.result_files)
    assert {len(client.files.content(name).content) == file.bytes for name, file in results.items()} == {True}
    report = next(name for name, file in results.items() if file.filename.endswith("report.json"))
    assert client.files.content(report).json() == {"rows": 2}
    with pytest.raises(openai.UnprocessableEntityError, match="stays with its job"):
        client.files.delete(weights)

    assert done.fine_tuned_model in [model.id for model in client.models.list()]
    assert client.models.retrieve(f"ft:{job.id}:step-000007").owned_by == done.organization_id
    for name in (f"ft:{job.id}:no", "no/such", "ft:job_x:model"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)


def test_a_failed_job_says_why(api: Api, client: OpenAI) -> None:
    job = created(client, uploaded(client))
    with transaction(api.backend.make) as session:
        failure = Failure(code="invalid_dataset", message="No row is short enough.")
        transitions.fail(session, api.claim(job.id), failure)

    error = client.fine_tuning.jobs.retrieve(job.id).error
    assert error is not None
    assert (error.code, error.message) == ("invalid_dataset", "No row is short enough.")


def test_the_operator_s_models_are_listed_and_named(backend: Backend) -> None:
    root = backend.settings.data_dir / "models"
    for name in ("plain", "org/nested"):
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text("{}")
    (root / "empty").mkdir()
    with serving(backend.with_settings(model_roots=[root])) as api, speaking(api, "owner") as client:
        assert [model.id for model in client.models.list()] == ["org/nested", "plain"]
        assert client.models.retrieve("org/nested").owned_by == "operator"
        job = created(client, uploaded(client), model="plain", extra_body={"teacher": "org/nested"})

    assert job.model_extra["distillation"]["spec"]["student"] == {"local": "plain"}
    assert job.model_extra["distillation"]["spec"]["teacher"] == {"local": "org/nested"}


def test_another_tenant_s_things_are_not_there_and_keys_are_asked_for(api: Api, client: OpenAI) -> None:
    job = created(client, uploaded(client))
    weights = finished(api, job.id)
    with speaking(api, "other") as other:
        asks: list[Callable[[], object]] = [
            lambda: other.files.retrieve(weights),
            lambda: other.files.content(job.training_file),
            lambda: other.files.delete(job.training_file),
            lambda: other.fine_tuning.jobs.retrieve(job.id),
            lambda: other.fine_tuning.jobs.cancel(job.id),
            lambda: other.fine_tuning.jobs.list_events(job.id),
            lambda: other.fine_tuning.jobs.checkpoints.list(job.id),
            lambda: other.models.retrieve(f"ft:{job.id}:model"),
        ]
        for ask in asks:
            with pytest.raises(openai.NotFoundError):
                ask()
        assert (list(other.files.list()), list(other.fine_tuning.jobs.list()), list(other.models.list())) == (
            [],
            [],
            [],
        )
        with pytest.raises(openai.UnprocessableEntityError):
            created(other, job.training_file)
    with speaking(api, "reader") as reader, pytest.raises(openai.PermissionDeniedError):
        created(reader, job.training_file)
    stranger = client.with_options(api_key="cpd_wrong")
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.BadRequestError):
        client.post(
            "/fine_tuning/jobs", cast_to=object, content=b"{", options={"headers": {"content-type": "application/json"}}
        )


def test_a_full_queue_is_a_rate_limit_error(client: OpenAI) -> None:
    rows = uploaded(client)
    for _ in range(5):
        created(client, rows)
    with pytest.raises(openai.RateLimitError) as refused:
        created(client, rows)
    assert refused.value.code == "quota_exceeded"


def body(training_file: str) -> dict[str, Any]:
    return {"model": "from-teacher:1", "training_file": training_file, **TINY}


def post(api: Api, sent: dict[str, Any], **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.owner.post("/v1/fine_tuning/jobs", json=sent, headers=named)


def test_a_post_that_is_sent_again_makes_one_job(api: Api, client: OpenAI) -> None:
    sent = body(uploaded(client))
    first = post(api, sent, x_stainless_retry_count="0").json()["id"]

    assert post(api, sent, x_stainless_retry_count="1").json()["id"] == first
    assert post(api, sent, x_stainless_retry_count="2").json()["id"] == first
    # Meant twice: a client that has had its answer counts from 0 again.
    second = post(api, sent, x_stainless_retry_count="0").json()["id"]
    assert second != first
    assert post(api, sent, x_stainless_retry_count="1").json()["id"] == second
    assert post(api, sent | {"seed": 1}, x_stainless_retry_count="1").json()["id"] not in (first, second)
    assert len(api.owner.get("/v1/jobs").json()["data"]) == 3


def test_a_key_makes_one_job_and_is_this_door_s_own(api: Api, client: OpenAI) -> None:
    sent = body(uploaded(client))
    first = post(api, sent, idempotency_key="once").json()["id"]

    assert post(api, sent, idempotency_key="once").json()["id"] == first
    assert post(api, sent | {"seed": 1}, idempotency_key="once").json()["error"]["code"] == "idempotency_key_reused"
    assert api.submit() != first
    assert api.owner.post("/v1/jobs", json=SPEC, headers={"idempotency-key": "once"}).status_code == 202


def test_retries_that_arrive_together_make_one_job(api: Api, client: OpenAI) -> None:
    sent = body(uploaded(client))
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: post(api, sent, x_stainless_retry_count=str(n)), range(1, 5)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_first_sending_that_its_retry_overtook_gets_the_retry_s_job(api: Api, client: OpenAI) -> None:
    rows = uploaded(client)
    with transaction(api.backend.make) as session:
        arrived_at = utc_now(session)
    retried = post(api, body(rows), x_stainless_retry_count="1").json()["id"]
    tenant, sha256 = client.fine_tuning.jobs.retrieve(retried).organization_id, canonical_sha256(body(rows))
    with transaction(api.backend.make) as session:
        late = Try(tenant_id=tenant, body_sha256=sha256, retries=0, arrived_at=arrived_at)
        later = Try(tenant_id=tenant, body_sha256=sha256, retries=0, arrived_at=utc_now(session))
        assert earlier(session, late, keep_s=60.0) == retried
        assert earlier(session, later, keep_s=60.0) is None


def canonical_sha256(sent: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(sent, sort_keys=True, separators=(",", ":")).encode()).digest()
