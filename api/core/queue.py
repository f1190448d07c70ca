"""The doorbell: a Celery message that carries a job's id and nothing else. Lost or doubled, it changes nothing."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue

from api.core.settings import Settings

RUN_TASK = "cpd.run"
QUEUE = "cpd"


def celery_app(settings: Settings) -> Celery:
    """The Celery app of producer and worker; touches the broker only when used. Makes the folders of filesystem://."""
    app = Celery("cpd", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        broker_connection_timeout=settings.broker_connect_s,
        # A worker waits for its broker as long as it takes, and a running job does not die of a broker that is away.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE, durable=True)],
        task_create_missing_queues=False,
        # Early ack and no results: the row is the truth, so neither redelivery nor a result can add to it.
        task_acks_late=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        enable_utc=True,
    )
    if settings.broker_url.startswith("filesystem://"):
        app.conf.update(broker_transport="api.core.mailbox:Transport", broker_transport_options=_folder(settings))
    else:
        app.conf.update(worker_disable_prefetch=True, broker_transport_options=_redis(settings))
    return app


# A publish fails at once and the bell comes back later, instead of kombu's own sleeping retries in the caller's thread.
_NO_RETRY: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}


def _folder(settings: Settings) -> dict[str, Any]:
    messages, control = settings.broker_dir / "messages", settings.broker_dir / "control"
    for folder in (messages, control):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        **_NO_RETRY,
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": 0.2,
    }


def _redis(settings: Settings) -> dict[str, Any]:
    return {
        **_NO_RETRY,
        "socket_timeout": settings.broker_socket_s,
        "socket_connect_timeout": settings.broker_connect_s,
        "socket_keepalive": True,
        "health_check_interval": settings.broker_health_s,
        "retry_on_timeout": False,
    }


def ring(app: Celery, job_id: str, *, connection: Connection | None = None) -> None:
    """Tell the workers that a job waits. Raises kombu.exceptions.OperationalError, within seconds, where the broker is away."""
    app.send_task(
        RUN_TASK,
        args=[job_id],
        queue=QUEUE,
        connection=connection,
        retry=False,
        ignore_result=True,
        add_to_parent=False,
    )


def depth(connection: Connection) -> int:
    """How many messages wait. Raises as `ring` does."""
    with connection.channel() as channel:
        # Not passive: Redis keeps no empty list, so a passive declaration calls an empty queue missing and raises.
        return int(Queue(QUEUE, channel=channel).queue_declare().message_count)


def ping(app: Celery) -> None:
    """Return where the broker answers; for readiness probes. Raises as `ring` does."""
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=0, timeout=app.conf.broker_connection_timeout)
        connection.default_channel  # noqa: B018 - opening it speaks to the broker
