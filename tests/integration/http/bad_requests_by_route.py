"""Bad requests to each route beside those that queue a job."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.http.api import COMPARISON, ROWS
from tests.integration.http.bad_requests import CANARY, JSON, SUITE, Bad, missing, query

FORM = {"content-type": "multipart/form-data; boundary=b"}
FINE_TUNING: dict[str, Any] = {"model": "from-teacher:1", "training_file": "<dataset>", "teacher": {"tiny": "gpt2"}}


def invalid(name: str, param: str | None, method: str, url: str, body: Any = None, **headers: str) -> Bad:
    """A request of which one field is not allowed."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return Bad(
        name=name, status=422, code="validation_error", param=param, method=method, url=url, body=content,
        headers=JSON | headers,
    )  # fmt: skip


def comparison(name: str, param: str, /, **changed: Any) -> Bad:
    """A comparison that is none."""
    return invalid(f"comparison: {name}", param, "POST", "/v1/comparisons", COMPARISON | changed)


def member(name: str, param: str, /, **given: Any) -> Bad:
    """A comparison of one member that sets what it may not."""
    return comparison(name, f"members.0.set.{param}", members=[{"label": "a", "set": given}])


def tuning(name: str, param: str, /, **changed: Any) -> Bad:
    """A fine-tuning job that cannot be queued; None takes a field away."""
    body = {key: value for key, value in (FINE_TUNING | changed).items() if value is not None}
    return invalid(f"fine-tuning: {name}", param, "POST", "/v1/fine_tuning/jobs", body)


def form(name: str, param: str | None, *parts: bytes, end: bytes = b"--b--\r\n") -> Bad:
    """A form that is no upload."""
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end
    return Bad(
        name=f"file: {name}", status=422, code="validation_error", param=param, url="/v1/files", body=body, headers=FORM
    )


def part(field: str, content: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    named = "" if filename is None else f'; filename="{filename}"'
    return f'Content-Disposition: form-data; name="{field}"{named}\r\n\r\n'.encode() + content


def conflict(name: str, code: str, method: str, url: str) -> Bad:
    """A request to which the row's state is in the way."""
    return Bad(name=name, status=409, code=code, method=method, url=url, headers={})


FILE = part("file", ROWS, "rows.jsonl")
PURPOSE = part("purpose", b"fine-tune")
BASE = COMPARISON["base"]
COMPARISONS = [
    comparison("no member", "members", members=[]),
    comparison("a member's label twice", "members", members=[{"label": "a"}, {"label": "a"}]),
    comparison("a label of markup", "members.0.label", members=[{"label": f"<{CANARY}>"}]),
    comparison("a member that is a text", "members.0", members=[CANARY]),
    comparison("a member's field of nothing", "members.0.colour", members=[{"label": "a", "colour": CANARY}]),
    comparison("a baseline that is nobody", "baseline", baseline=CANARY),
    comparison("a baseline that is a number", "baseline", baseline=7),
    comparison("a seed twice", "seeds", seeds=[1, 1]),
    comparison("no seed", "seeds", seeds=[]),
    comparison("a negative seed", "seeds.0", seeds=[-1]),
    comparison("a seed of 2^40", "seeds.1", seeds=[0, 2**40]),
    comparison("more jobs than may be", "seeds", seeds=list(range(101))),
    comparison("a budget of a made-up unit", "budget.unit", budget={"unit": CANARY, "amount": 3}),
    comparison("a budget of both measures", "budget", budget={"amount": 3, "epochs": 1.0}),
    comparison("a budget below a step an epoch", "budget", budget={"unit": "steps", "amount": 2}),
    comparison("the base's budget below that", "base.budget", base=BASE | {"budget": {"unit": "steps", "amount": 2}}),
    comparison("a base that is a list", "base", base=[]),
    comparison("a base without a teacher", "base.teacher", base={k: v for k, v in BASE.items() if k != "teacher"}),
    comparison("a base with zero temperature", "base.tau_1", base=BASE | {"tau_1": 0}),
    comparison("a base on rows of nobody", "base.dataset.train", base=BASE | {"dataset": {"train": "ds_00000000"}}),
    comparison("a base's heads that do not divide", "base.teacher.heads", base=BASE | {"teacher": {"tiny": "gpt2", "heads": 3}}),
    comparison("a base's model that climbs", "base.student.hub", base=BASE | {"student": {"hub": "../x"}}),
    comparison("an unknown field", "colour", colour=CANARY),
    comparison("a name with a control character", "name", name="a\tb"),
    comparison("metadata of numbers", "metadata.team", metadata={"team": 7}),
    member("a divergence that is none", "divergence", divergence=CANARY),
    member("no batch", "optimizer.batch_size", optimizer={"batch_size": 0}),
    member("a model that climbs", "student.hub", student={"hub": "../x"}),
    member("a folder of the operator's", "student.local", student={"local": "llama"}),
    member("a field of nothing", "epohcs", epohcs=3),
    member("rows of its own", "dataset", dataset={"synthetic": {}}),
    member("scores of its own", "evaluation", evaluation={"suites": [SUITE]}),
    member("a seed of its own", "seed", seed=1),
    member("a gradient of nothing", "alpha", divergence="sft", alpha=0.0),
    member("a constant that it has not", "constants.beta", divergence="kld", constants={"beta": 0.1}),
]  # fmt: skip
TUNING = [
    tuning("no model", "model", model=None),
    tuning("an empty model", "model", model=""),
    tuning("a model of 500 letters", "model", model="m" * 500),
    tuning("a model that climbs", "model", model="../../etc/passwd"),
    tuning("a file as model", "model", model="file:///etc/passwd"),
    tuning("a metadata service as model", "model", model="http://169.254.169.254/"),
    tuning("a homoglyph as model", "model", model="оrg/model"),
    tuning("a newline behind a model", "model", model="org/a\n"),
    tuning("no layer less", "model", model="from-teacher:0"),
    tuning("a tiny model of no family", "model", model="tiny:nothing"),
    tuning("a model as a number", "model", model=7),
    tuning("no file", "training_file", training_file=None),
    tuning("a file of nobody", "training_file", training_file="file-abc"),
    tuning("a path as file", "training_file", training_file="/etc/passwd"),
    tuning("a validation file of nobody", "validation_file", validation_file=f"ds_{CANARY}00"),
    tuning("no teacher", "teacher", teacher=None),
    tuning("a teacher that climbs", "teacher", teacher="../x"),
    tuning("a teacher that is a list", "teacher", teacher=[CANARY]),
    tuning("a teacher of no family", "teacher", teacher={"tiny": CANARY}),
    tuning("a suffix with a control character", "suffix", suffix="a\tb"),
    tuning("an empty suffix", "suffix", suffix=""),
    tuning("a negative seed", "seed", seed=-1),
    tuning("a seed as text", "seed", seed="7"),
    tuning("seventeen pairs of metadata", "metadata", metadata={str(i): "" for i in range(17)}),
    tuning("a number as metadata", "metadata.team", metadata={"team": 7}),
    tuning("integrations", "integrations", integrations=[{"type": "wandb"}]),
    tuning("no epoch", "hyperparameters.n_epochs", hyperparameters={"n_epochs": 0}),
    tuning("epochs as text", "hyperparameters.n_epochs", hyperparameters={"n_epochs": CANARY}),
    tuning("a bool as batch", "hyperparameters.batch_size", hyperparameters={"batch_size": True}),
    tuning("no rate", "hyperparameters.learning_rate_multiplier", hyperparameters={"learning_rate_multiplier": 0}),
    tuning("a hyperparameter of nothing", "hyperparameters.colour", hyperparameters={"colour": CANARY}),
    tuning("a method that is not ours", "method.type", method={"type": "dpo"}),
    tuning("settings of another method", "method", method={"type": "supervised", "distillation": {}}),
    tuning("an unknown field", "colour", colour=CANARY),
    tuning("a field of ours out of range", "distillation.tau_1", distillation={"tau_1": -1.0}),
    tuning("a field of ours that is none", "distillation.colour", distillation={"colour": CANARY}),
    tuning("a rule of ours", "distillation.constants.beta", distillation={"divergence": "kld", "constants": {"beta": 0.1}}),
    tuning("nothing to learn", "distillation.alpha", distillation={"divergence": "sft", "alpha": 0.0}),
    tuning("distillation that is a list", "distillation", distillation=[]),
    tuning("data that is a text", "distillation.dataset", distillation={"dataset": CANARY}),
    tuning("an optimizer that is a text", "distillation.optimizer", distillation={"optimizer": CANARY}),
    tuning("rows named twice", "training_file", distillation={"dataset": {"train": "ds_00000000"}}),
    *(
        invalid(f"fine-tuning: {name}", header, "POST", "/v1/fine_tuning/jobs", FINE_TUNING, **{header: value})
        for name, header, value in (
            ("retries as text", "x-stainless-retry-count", CANARY),
            ("negative retries", "x-stainless-retry-count", "-1"),
            ("an empty key", "Idempotency-Key", ""),
            ("a key with a space", "Idempotency-Key", "a b"),
        )
    ),
]  # fmt: skip
FILES = [
    form("no purpose", "purpose", FILE),
    form("another purpose", "purpose", FILE, part("purpose", CANARY.encode())),
    form("no file", "file", PURPOSE),
    form("a file without a name", "file", part("file", ROWS), PURPOSE),
    form("two files", "file", FILE, FILE, PURPOSE),
    form("a control character in the name", "file", part("file", ROWS, "a\x7f"), PURPOSE),
    form("a name of 256", "file", part("file", ROWS, "n" * 256), PURPOSE),
    form("an expiry", "expires_after.anchor", FILE, PURPOSE, part("expires_after[seconds]", b"3600")),
    form("another option", None, FILE, PURPOSE, part("colour", CANARY.encode())),
    form("a field of 5000 bytes", None, part("purpose", b"x" * 5000), FILE),
    form("seventeen fields", None, *(part(f"f{i}", b"") for i in range(17))),
    form("no part", None, end=b""),
    form("no end", None, FILE, PURPOSE, end=b"--b"),
    form("a header without end", None, b"X: " + b"x" * 9000),
    form("a header that is none", None, b"\x00\xff: a\r\n\r\n"),
    Bad(name="file: rows that are none", status=422, code="invalid_dataset", url="/v1/files", headers=FORM,
        body=b"--b\r\n" + part("file", CANARY.encode(), "a") + b"\r\n--b\r\n" + PURPOSE + b"\r\n--b--\r\n"),
    Bad(name="file: no boundary", status=415, code="unsupported_media_type", url="/v1/files", body=b"",
        headers={"content-type": "multipart/form-data"}),
    Bad(name="file: JSON", status=415, code="unsupported_media_type", url="/v1/files", body=b"{}"),
    Bad(name="file: too large", status=413, code="upload_too_large", url="/v1/files", body=b"x" * 300_000, headers=FORM),
    query("files: limit 0", "/v1/files?limit=0", "limit"),
    query("files: limit 10001", "/v1/files?limit=10001", "limit"),
    query("files: limit as text", f"/v1/files?limit={CANARY}", "limit"),
    query("files: an unknown order", f"/v1/files?order={CANARY}", "order"),
    query("files: an unknown purpose", f"/v1/files?purpose={CANARY}", "purpose"),
    query("files: after nothing", "/v1/files?after=file-abc", "after"),
    query("files: after a NUL", "/v1/files?after=%00", "after"),
    query("files: after 201 letters", "/v1/files?after=" + "a" * 201, "after"),
    missing("files: an unknown one", "/v1/files/file-abc"),
    missing("files: one that climbs", "/v1/files/..%2f..%2fetc%2fpasswd"),
    missing("files: a NUL", "/v1/files/%00"),
    Bad(
        name="usage: by a key that is none", status=401, code="invalid_api_key", method="GET", url="/v1/usage",
        headers={"authorization": "Bearer bogus"},
    ),
    missing("files: the bytes of an unknown one", "/v1/files/file-abc/content"),
    missing("files: an unknown one to delete", "/v1/files/file-abc", "DELETE"),
    missing("files: a NUL to delete", "/v1/files/a%00", "DELETE"),
]  # fmt: skip
OPENAI = [
    query("tuning jobs: limit 0", "/v1/fine_tuning/jobs?limit=0", "limit"),
    query("tuning jobs: after nothing", "/v1/fine_tuning/jobs?after=ftjob-abc", "after"),
    query("tuning jobs: after an injection", "/v1/fine_tuning/jobs?after=%27%20OR%201%3D1", "after"),
    query("tuning jobs: metadata without a name", "/v1/fine_tuning/jobs?metadata=a", "metadata"),
    query("tuning jobs: metadata with a quote", "/v1/fine_tuning/jobs?metadata%5B%22%5D=a", "metadata"),
    query("tuning jobs: metadata with a NUL", "/v1/fine_tuning/jobs?metadata%5Ba%5D=%00", "metadata"),
    query("tuning events: limit -1", "/v1/fine_tuning/jobs/<job>/events?limit=-1", "limit"),
    query("tuning events: after nothing", "/v1/fine_tuning/jobs/<job>/events?after=evt_0", "after"),
    query("tuning events: after one of another job", "/v1/fine_tuning/jobs/<job>/events?after=evt_00000000_1", "after"),
    query("tuning checkpoints: after nothing", "/v1/fine_tuning/jobs/<job>/checkpoints?after=%00", "after"),
    query("tuning checkpoints: limit as text", f"/v1/fine_tuning/jobs/<job>/checkpoints?limit={CANARY}", "limit"),
    missing("tuning jobs: an unknown one", "/v1/fine_tuning/jobs/job_00000000"),
    missing("tuning jobs: a NUL", "/v1/fine_tuning/jobs/job_%00"),
    missing("tuning jobs: an unknown one to cancel", "/v1/fine_tuning/jobs/ftjob-abc/cancel", "POST"),
    missing("tuning jobs: an unknown one to pause", "/v1/fine_tuning/jobs/job_0/pause", "POST"),
    missing("tuning jobs: an unknown one to resume", "/v1/fine_tuning/jobs/job_0/resume", "POST"),
    missing("tuning jobs: events of an unknown one", "/v1/fine_tuning/jobs/job_0/events"),
    missing("tuning jobs: checkpoints of an unknown one", "/v1/fine_tuning/jobs/job_0/checkpoints"),
    conflict("tuning jobs: a finished one to cancel", "job_already_finished", "POST", "/v1/fine_tuning/jobs/<ended>/cancel"),
    missing("models: an unknown one", "/v1/models/org/nothing"),
    missing("models: one that climbs", "/v1/models/../../etc/passwd"),
    missing("models: one that climbs, written out", "/v1/models/..%2f..%2fetc%2fpasswd"),
    missing("models: a checkpoint of nobody", "/v1/models/ft:job_00000000:model"),
    missing("models: a checkpoint that climbs", "/v1/models/ft:<ended>:..%2fx"),
    missing("models: a NUL", "/v1/models/%00"),
    Bad(name="models: a long address", status=414, code="uri_too_long", method="GET", url="/v1/models?a=" + "a" * 9000),
]  # fmt: skip
RESULTS = [
    query("datasets: limit -1", "/v1/datasets?limit=-1", "limit"),
    query("datasets: a cursor of another form", "/v1/datasets?cursor=%27%3B--", "cursor"),
    query("comparisons: limit 101", "/v1/comparisons?limit=101", "limit"),
    query("comparisons: an injected cursor", "/v1/comparisons?cursor=%27%20OR%201%3D1", "cursor"),
    query("events: after as text", f"/v1/jobs/<job>/events?after={CANARY}", "after"),
    query("events: limit 0", "/v1/jobs/<job>/events?limit=0", "limit"),
    query("events: a stream after -1", "/v1/jobs/<job>/events?after=-1", "after", accept="text/event-stream"),
    query("events: a negative Last-Event-ID", "/v1/jobs/<job>/events", "Last-Event-ID", **{"last-event-id": "-1"}),
    query("metrics: 5001 points", "/v1/jobs/<ended>/metrics?points=5001", "points"),
    query("metrics: a name that climbs out of its letters", "/v1/jobs/<ended>/metrics?name=a%20b", "name"),
    query("samples: limit 0", "/v1/jobs/<ended>/samples?limit=0", "limit"),
    query("samples: an injected cursor", "/v1/jobs/<ended>/samples?cursor=%27%20OR%201%3D1", "cursor"),
    query("samples: a cursor beyond the file", "/v1/jobs/<ended>/samples?cursor=" + "9" * 30, "cursor"),
    query("samples: a suite that climbs", "/v1/jobs/<ended>/samples?suite=..%2fx", "suite"),
    query("checkpoints: limit as text", f"/v1/jobs/<ended>/checkpoints?limit={CANARY}", "limit"),
    query("checkpoints: an injected cursor", "/v1/jobs/<ended>/checkpoints?cursor=%27%20OR%201%3D1", "cursor"),
    query("download: an unknown format", "/v1/jobs/<ended>/checkpoints/model/download?format=zip", "format"),
    query("download: no adapter", "/v1/jobs/<ended>/checkpoints/model/download?format=adapter", "format"),
    conflict("difficulty: not yet", "artifact_not_ready", "GET", "/v1/jobs/<job>/difficulty"),
    conflict("samples: not yet", "artifact_not_ready", "GET", "/v1/jobs/<job>/samples"),
    conflict("figure: not yet", "artifact_not_ready", "GET", "/v1/comparisons/<comparison>/figure.png"),
    conflict("figure's numbers: not yet", "artifact_not_ready", "GET", "/v1/comparisons/<comparison>/figure.json"),
    conflict("jobs: a finished one to cancel", "job_already_finished", "POST", "/v1/jobs/<ended>/cancel"),
    conflict("jobs: a finished one to pause", "job_already_finished", "POST", "/v1/jobs/<ended>/pause"),
    conflict("jobs: a finished one to resume", "job_already_finished", "POST", "/v1/jobs/<ended>/resume"),
    conflict("datasets: one in use to delete", "dataset_in_use", "DELETE", "/v1/datasets/<dataset>"),
    conflict("files: one in use to delete", "dataset_in_use", "DELETE", "/v1/files/<dataset>"),
    missing("datasets: an unknown one to delete", "/v1/datasets/ds_00000000", "DELETE"),
    missing("datasets: the bytes of an unknown one", "/v1/datasets/ds_00000000/content"),
    missing("datasets: an id that climbs", "/v1/datasets/..%2f..%2fetc%2fpasswd/content"),
    missing("datasets: a NUL", "/v1/datasets/%00"),
    missing("jobs: an unknown one to pause", "/v1/jobs/job_00000000/pause", "POST"),
    missing("jobs: an unknown one to resume", "/v1/jobs/%00/resume", "POST"),
    missing("events of an unknown job", "/v1/jobs/job_00000000/events"),
    missing("metrics of an unknown job", "/v1/jobs/job_00000000/metrics"),
    missing("difficulty of an unknown job", "/v1/jobs/job_00000000/difficulty"),
    missing("evaluation of an unknown job", "/v1/jobs/job_00000000/evaluation"),
    missing("samples of an unknown job", "/v1/jobs/job_00000000/samples"),
    missing("checkpoints of an unknown job", "/v1/jobs/job_00000000/checkpoints"),
    missing("a checkpoint that climbs", "/v1/jobs/<ended>/checkpoints/..%2f..%2fx"),
    missing("a download of nothing", "/v1/jobs/<ended>/checkpoints/nothing/download"),
    missing("a download with a NUL", "/v1/jobs/<ended>/checkpoints/%00/download"),
    missing("a file of nothing", "/v1/jobs/<ended>/checkpoints/model/files/nothing"),
    missing("a file that climbs", "/v1/jobs/<ended>/checkpoints/model/files/..%2f..%2f..%2fkey"),
    missing("an absolute file", "/v1/jobs/<ended>/checkpoints/model/files//etc/passwd"),
    missing("a file with a NUL", "/v1/jobs/<ended>/checkpoints/model/files/a%00"),
    missing("a file with half a character", "/v1/jobs/<ended>/checkpoints/model/files/%ed%a0%80"),
    missing("comparisons: an unknown one", "/v1/comparisons/cmp_00000000"),
    missing("comparisons: a NUL", "/v1/comparisons/%00"),
    missing("comparisons: an unknown one to cancel", "/v1/comparisons/cmp_0/cancel", "POST"),
    missing("comparisons: the figure of an unknown one", "/v1/comparisons/cmp_0/figure.png"),
    Bad(name="a range beyond the file", status=416, code="range_not_satisfiable", method="GET",
        url="/v1/jobs/<ended>/checkpoints/model/files/model.safetensors", headers={"range": "bytes=999-"}),
    Bad(name="a range beyond the archive", status=416, code="range_not_satisfiable", method="GET",
        url="/v1/jobs/<ended>/checkpoints/model/download", headers={"range": "bytes=999999999-"}),
    Bad(name="a range beyond the rows", status=416, code="range_not_satisfiable", method="GET",
        url="/v1/datasets/<dataset>/content", headers={"range": "bytes=999999999-"}),
]  # fmt: skip
UPLOAD = {"bytes": 10, "filename": "rows.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
HOOK = {"name": "x", "url": "http://127.0.0.1:9/", "event_types": ["fine_tuning.job.failed"]}


def uploading(name: str, param: str, /, **changed: Any) -> Bad:
    """An upload in parts that cannot begin."""
    return invalid(f"upload: {name}", param, "POST", "/v1/uploads", UPLOAD | changed)


def hook(name: str, param: str, /, **changed: Any) -> Bad:
    """A webhook that is none."""
    return invalid(f"webhook: {name}", param, "POST", "/v1/webhook_endpoints", HOOK | changed)


UPLOADS = [
    uploading("no byte", "bytes", bytes=0),
    uploading("bytes as text", "bytes", bytes="10"),
    uploading("2^60 bytes", "bytes", bytes=2**60),
    uploading("a name with a NUL's neighbour", "filename", filename="a\x01"),
    uploading("another purpose", "purpose", purpose=CANARY),
    uploading("an unknown field", "colour", colour=CANARY),
    *(
        Bad(
            name=f"upload: an unknown one, {rest}", status=404, code="not_found", url=f"/v1/uploads/{CANARY}{rest}",
            body=body, headers=headers,
        )
        for rest, body, headers in (
            ("/parts", b"--b\r\n" + part("data", ROWS, "a") + b"\r\n--b--\r\n", FORM),
            ("/complete", b'{"part_ids": ["part_0"]}', JSON),
            ("/cancel", None, {}),
        )
    ),
    invalid("upload: no part", "part_ids", "POST", "/v1/uploads/upload_0/complete", {"part_ids": []}),
    invalid("upload: a hash that is none", "md5", "POST", "/v1/uploads/upload_0/complete", {"part_ids": ["a"], "md5": CANARY}),
]  # fmt: skip
HOOKS = [
    hook("no name", "name", name=""),
    hook("a name with a control character", "name", name="a\tb"),
    hook("no event", "event_types", event_types=[]),
    hook("an event of nothing", "event_types.0", event_types=[CANARY]),
    hook("an unknown field", "colour", colour=CANARY),
    hook("a file", "url", url="file:///etc/passwd"),
    hook("another scheme", "url", url="gopher://127.0.0.1:6379/_FLUSHALL"),
    hook("a user in the address", "url", url=f"http://me:{CANARY}@127.0.0.1/"),
    hook("a homoglyph", "url", url="http://еxample.com/"),
    hook("a space", "url", url="http://127.0.0.1/a b"),
    hook("no host", "url", url="http:///a"),
    hook("a port that is none", "url", url="http://127.0.0.1:99999/"),
    hook("an address of 3000 letters", "url", url="http://127.0.0.1/" + "a" * 3000),
    invalid("webhook: a secret kept for what", "keep_old_secret_active_for_24_hours", "POST",
            "/v1/webhook_endpoints/we_0/rotate_secret", {"keep_old_secret_active_for_24_hours": "yes"}),
    invalid("webhook: a test of nothing", "event_type", "POST", "/v1/webhook_endpoints/we_0/test", {"event_type": CANARY}),
    invalid("webhook: a change of nothing", "colour", "POST", "/v1/webhook_endpoints/we_0", {"colour": CANARY}),
    query("webhooks: limit 0", "/v1/webhook_endpoints?limit=0", "limit"),
    missing("webhook: an unknown one", "/v1/webhook_endpoints/we_00000000"),
    missing("webhook: a NUL", "/v1/webhook_endpoints/%00"),
    missing("webhook: an unknown one to delete", "/v1/webhook_endpoints/we_00000000", "DELETE"),
    missing("webhook: the deliveries of an unknown one", "/v1/webhook_endpoints/we_00000000/deliveries"),
    Bad(name="webhooks: a long address", status=414, code="uri_too_long", method="GET", url="/v1/webhook_event_types?a=" + "a" * 9000),
]  # fmt: skip
FIGURES = [
    query("figures: of nothing", "/v1/jobs/<ended>/figures/nothing", "name"),
    query("figures: of a NUL", "/v1/jobs/<ended>/figures/%00", "name"),
    query("figures: of a comparison's nothing", "/v1/comparisons/<comparison>/figures/nothing", "name"),
    missing("figures: one that climbs", "/v1/jobs/<ended>/figures/..%2fx"),
    missing("figures: of an unknown job", "/v1/jobs/job_00000000/figures/profile"),
    missing("figures: of an unknown comparison", "/v1/comparisons/cmp_0/figures/methods"),
    missing("flips of an unknown job", "/v1/jobs/job_00000000/flips"),
    missing("report of an unknown job", "/v1/jobs/job_00000000/report"),
    missing("report of an unknown comparison", "/v1/comparisons/cmp_0/report"),
    missing("models: an unknown one to delete", "/v1/models/ft:job_00000000:model", "DELETE"),
]
CHAT = {"model": "ft:job_00000000:model", "messages": [{"role": "user", "content": "x"}]}
PROMPT = {"model": "ft:job_00000000:model", "prompt": "x"}


def asking(name: str, param: str, url: str, /, **changed: Any) -> Bad:
    """A question that no model is asked."""
    return invalid(f"{url}: {name}", param, "POST", url, (CHAT if "chat" in url else PROMPT) | changed)


ASKED = [
    *(
        asking(name, param, url, **{param: value})
        for url in ("/v1/chat/completions", "/v1/completions")
        for name, param, value in (
            ("no model", "model", ""),
            ("a model as a number", "model", 7),
            ("no token", "max_tokens", 0),
            ("tokens as text", "max_tokens", CANARY),
            ("a negative temperature", "temperature", -1),
            ("an unknown field", "colour", CANARY),
        )
    ),
    asking("no message", "messages", "/v1/chat/completions", messages=[]),
    asking("a message of nobody", "messages.0.role", "/v1/chat/completions", messages=[{"role": CANARY, "content": "x"}]),
    *(
        Bad(name=f"{url}: a model of nobody", status=404, code="not_found", url=url, body=json.dumps(body).encode())
        for url, body in (("/v1/chat/completions", CHAT), ("/v1/completions", PROMPT))
    ),
    missing("comparisons: the table of an unknown one to make again", "/v1/comparisons/cmp_0/table", "POST"),
]  # fmt: skip
METHODS = [
    Bad(name=f"{method} {url}", status=405, code="method_not_allowed", method=method, url=url, body=b"{}")
    for method, url in (
        ("PATCH", "/v1/jobs/<job>"), ("DELETE", "/v1/jobs/<job>"), ("GET", "/v1/jobs/<job>/cancel"),
        ("POST", "/v1/jobs/<job>/events"), ("PUT", "/v1/datasets"), ("POST", "/v1/datasets/<dataset>"),
        ("DELETE", "/v1/comparisons/<comparison>"), ("PUT", "/v1/files"), ("POST", "/v1/files/<dataset>"),
        ("DELETE", "/v1/fine_tuning/jobs/<job>"), ("PUT", "/v1/models/org/name"), ("POST", "/healthz"),
        ("DELETE", "/metrics"), ("TRACE", "/v1/jobs"), ("POST", "/v1/jobs/<ended>/checkpoints/model/download"),
    )
]  # fmt: skip
BY_ROUTE = [*COMPARISONS, *TUNING, *FILES, *OPENAI, *RESULTS, *UPLOADS, *HOOKS, *FIGURES, *ASKED, *METHODS, *[
    Bad(name=f"{url}: not JSON", status=415, code="unsupported_media_type", url=url, body=b"{}", headers={"content-type": "text/plain"})
    for url in ("/v1/jobs/estimate", "/v1/jobs/probe", "/v1/comparisons", "/v1/fine_tuning/jobs")
], *[
    Bad(name=f"{url}: a body too large", status=413, code="body_too_large", url=url, body=b" " * (2**20 + 1))
    for url in ("/v1/jobs/estimate", "/v1/jobs/probe", "/v1/comparisons", "/v1/fine_tuning/jobs")
]]  # fmt: skip
