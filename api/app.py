"""The application: `create_app(settings)` puts the parts together and touches nothing outside until it starts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Protocol

import anyio
from fastapi import FastAPI
from starlette.middleware import Middleware

from api import description, health, problems, usage
from api.artifacts.routes import router as artifacts
from api.comparisons.routes import router as comparisons
from api.completions import service as completion_service
from api.core import db
from api.core.queue import celery_app
from api.core.settings import Settings
from api.core.stores import open_store
from api.datasets import parts
from api.datasets import service as dataset_service
from api.datasets.routes import router as datasets
from api.deps import Resources
from api.edge import Edge
from api.events import permits
from api.events.routes import router as events
from api.events.service import loader
from api.events.stream import Feeds
from api.jobs.bell import Backoff, Bell
from api.jobs.routes import router as jobs
from api.leftovers import service as leftover_service
from api.metrics import RequestMetrics
from api.openai.chat_routes import router as completions
from api.openai.creation import check_defaults
from api.openai.routes import router as openai
from api.openai.upload_routes import router as uploads
from api.rates import RateLimiter
from api.reports.routes import router as reports
from api.upkeep import Chore, Upkeep
from api.web import pages
from api.web.figure_routes import router as figures
from api.web.routes import router as web
from api.webhooks import service as webhook_service
from api.webhooks.courier import Courier
from api.webhooks.routes import router as webhooks

# No upload to the store takes so long; what is as old was left by a process that was killed.
_ABANDONED_S = 86_400.0


def create_app(settings: Settings) -> FastAPI:
    """The REST API on the database, broker and store that `settings` name."""
    check_defaults(settings)
    resources = _resources(settings)
    app = FastAPI(
        title="CPD",
        summary="Distillation as a service.",
        version=version("cpd"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=[Middleware(Edge, metrics=resources.requests)],
    )
    app.state.resources = resources
    problems.install(app)
    pages.install(app)
    for router in (
        datasets,
        jobs,
        events,
        artifacts,
        comparisons,
        figures,
        reports,
        openai,
        uploads,
        completions,
        webhooks,
        health.router,
        usage.router,
        web,
    ):
        app.include_router(router)
    description.install(app, page_max=settings.page_max)
    return app


def _resources(settings: Settings) -> Resources:
    engine = db.connect(settings.database_url, pool_size=settings.pool_size)
    make = db.sessions(engine)
    celery = celery_app(settings)
    store = open_store(settings)
    backoff = Backoff(first_s=settings.ring_first_s, last_s=settings.ring_last_s)
    return Resources(
        settings=settings,
        engine=engine,
        make=make,
        store=store,
        feeds=Feeds(loader(make), poll_s=settings.stream_poll_s, ping_s=settings.stream_ping_s),
        permits=permits.Permits(),
        bell=Bell(make, celery, backoff, tick_s=settings.bell_s),
        broker=health.Probe(partial(health.broker_answers, celery)),
        files=health.Probe(partial(health.store_answers, store)),
        requests=RequestMetrics(),
        rates=RateLimiter(settings.rate_per_minute, clock=time.monotonic),
    )


class Background(Protocol):
    """A thread of this process."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End after the work at hand."""
        ...


def _chores(resources: Resources) -> dict[str, Chore]:
    make, store = resources.make, resources.store
    return {
        "expire_datasets": partial(dataset_service.expire, make, store),
        "expire_uploads": partial(parts.expire, make, store),
        "clear_leftovers": partial(leftover_service.clear, make, store),
        "sweep_store": partial(store.sweep, _ABANDONED_S),
        "forget_completions": partial(completion_service.forget, make),
        "forget_deliveries": partial(webhook_service.forget, make),
    }


def _couriers(resources: Resources) -> list[Courier]:
    settings = resources.settings
    if settings.webhooks == "off":
        return []
    return [Courier(resources.make, webhook_service.rules(settings), tick_s=settings.bell_s)]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    resources: Resources = app.state.resources
    # A thread uses one connection at most, so with as many threads as connections, less those of the bell and of the permits, none waits
    # for another's.
    requests = 2 * resources.settings.pool_size - 1 - permits.AT_ONCE
    anyio.to_thread.current_default_thread_limiter().total_tokens = max(1, requests)
    upkeep = Upkeep(_chores(resources), every_s=resources.settings.upkeep_s)
    threads: list[Background] = [resources.bell, upkeep, *_couriers(resources)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        resources.feeds.close()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.stop)
        resources.engine.dispose()
        await anyio.to_thread.run_sync(resources.store.close)
