"""The Celery application: `celery -A config worker` and `celery -A config beat`, each a process of its own."""

import os
from typing import Any

from celery import Celery, signals
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

TRANSPORT_ALIASES["files"] = "config.broker:Transport"
app = Celery("outbound")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["delivery"])

# A worker serves all queues unless it is started with -Q, and the queue of version 0.1 for one release.
QUEUES: dict[str, tuple[str, ...]] = {
    "sending": ("hand_over_due", "help_hand_over", "forward_answers"),
    "matching": ("match_ongoing_messages", "match_message", "launch_message", "judge_waiting", "sweep"),
    "bulk": ("go_on_importing", "change_kind", "work_off_jobs", "forget_old", "check_domains"),
    "webhooks": ("tell_subscribers",),
}
OLD_QUEUE = "celery"
app.conf.task_default_queue = OLD_QUEUE
app.conf.task_queues = [Queue(name, routing_key=name) for name in (*QUEUES, OLD_QUEUE)]
app.conf.task_routes = {f"delivery.tasks.{task}": {"queue": queue} for queue, tasks in QUEUES.items() for task in tasks}


@signals.worker_ready.connect
@signals.beat_init.connect
def start_alarm_thread(**_options: object) -> None:
    """Check for alarms each minute, in every worker and every beat."""
    from config import alarm_thread

    alarm_thread.start_thread()


@signals.worker_ready.connect
@signals.beat_init.connect
def check_sessions(**_options: object) -> None:
    """Log why a session of the database may outlive its machine."""
    from config.postgres import sessions

    sessions.log_problems()


@signals.celeryd_after_setup.connect
def reserve_process(instance: Any, **_options: object) -> None:
    """Keep a process free for sending, in a worker that serves the other queues too."""
    from delivery import reservation

    if set(QUEUES) <= set(instance.app.amqp.queues.consume_from):
        reservation.reserve(instance.concurrency)


@signals.worker_ready.connect
def start_change_thread(**_options: object) -> None:
    """Match customers as soon as they change, in every worker. Its pool may be busy with long tasks."""
    from delivery import change_thread

    change_thread.start_thread()


@signals.worker_shutting_down.connect
def finish_batches(**_options: object) -> None:
    """Make the pool finish the current copies and put back the rest: a warm shutdown waits for its tasks."""
    from delivery import shutdown

    shutdown.request_for_all()


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close_resources(**_facts: object) -> None:
    """Export the last spans, end the logins to Firebase and remove the journals when a worker process stops.

    A dispatcher closes its pool.
    """
    from delivery import process
    from delivery.telemetry import tracing

    process.close_resources()
    tracing.close()
