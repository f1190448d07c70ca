"""A data set stays while a job that has not finished needs it."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from api.core.errors import DatasetInUse, NotFound
from api.datasets import queries
from api.datasets.tables import Dataset
from api.jobs import transitions
from tests.backends import TENANT, Backend
from tests.integration.store.steps import do, submitted, together


def stored(backend: Backend) -> str:
    dataset_id = f"ds_{uuid4().hex}"
    values: dict[str, Any] = {"name": "train.jsonl", "format": "instruction", "rows": 1, "bad_rows": 0, "size_bytes": 9}
    values |= {"id": dataset_id, "tenant_id": TENANT, "sha256": "0" * 64, "storage_key": f"datasets/{dataset_id}"}
    do(backend, lambda session: session.execute(insert(Dataset).values(**values, report={})))
    return dataset_id


def submit_on(session: Session, dataset_id: str) -> str:
    job_id = f"job_{uuid4().hex}"
    queries.hold_datasets(session, [dataset_id], tenant_id=TENANT)
    resolved = {"dataset": {"train": dataset_id}}
    transitions.submit(session, job_id=job_id, tenant_id=TENANT, spec={}, resolved=resolved)
    return job_id


@pytest.mark.parametrize("split", queries.SPLITS)
def test_a_data_set_in_use_is_not_deleted(backend: Backend, split: str) -> None:
    dataset_id = stored(backend)
    job_id = submitted(backend, dataset={"train": None, split: dataset_id})

    with pytest.raises(DatasetInUse):
        do(backend, queries.delete, dataset_id, tenant_id=TENANT)

    do(backend, transitions.request_cancel, job_id, tenant_id=TENANT)
    assert do(backend, queries.delete, dataset_id, tenant_id=TENANT) == f"datasets/{dataset_id}"
    with pytest.raises(NotFound):
        do(backend, queries.delete, dataset_id, tenant_id=TENANT)
    with pytest.raises(NotFound):
        do(backend, submit_on, dataset_id)


@pytest.mark.parametrize("field", ["data", "examples"])
def test_a_data_set_of_a_suite_in_use_is_not_deleted(backend: Backend, field: str) -> None:
    needed, other = stored(backend), stored(backend)
    suites = [{"task": "dolly", "data": "ds_00000000"}, {"task": "gsm8k", "data": "ds_00000000", field: needed}]
    job_id = submitted(backend, dataset={"train": None}, evaluation={"suites": suites})

    with pytest.raises(DatasetInUse):
        do(backend, queries.delete, needed, tenant_id=TENANT)
    do(backend, queries.delete, other, tenant_id=TENANT)

    do(backend, transitions.request_cancel, job_id, tenant_id=TENANT)
    do(backend, queries.delete, needed, tenant_id=TENANT)


def test_another_tenants_data_set_is_a_missing_one(backend: Backend) -> None:
    dataset_id = stored(backend)
    for ask in (
        queries.delete,
        lambda session, some, tenant_id: queries.hold_datasets(session, [some], tenant_id=tenant_id),
    ):
        with pytest.raises(NotFound):
            do(backend, ask, dataset_id, tenant_id="ten_other")


def test_a_submit_and_a_delete_at_the_same_moment_never_both_succeed(backend: Backend) -> None:
    for _ in range(25):
        dataset_id = stored(backend)
        job, deleted = together(
            partial(do, backend, submit_on, dataset_id),
            partial(do, backend, queries.delete, dataset_id, tenant_id=TENANT),
        )
        assert isinstance(job, NotFound) != isinstance(deleted, DatasetInUse)
