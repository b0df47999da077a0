"""The Celery application: `celery -A config worker` and `celery -A config beat`, each a process of its own."""

import os

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

TRANSPORT_ALIASES["files"] = "config.broker:Transport"
app = Celery("outbound")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["delivery"])


@signals.worker_ready.connect
@signals.beat_init.connect
def watch_the_others(**_facts: object) -> None:
    """Look each minute for what is stuck, in every worker and in beat."""
    from config import alarm_thread

    alarm_thread.begin()


@signals.worker_shutting_down.connect
def put_down(**_facts: object) -> None:
    """Have the pool finish the copies in hand and put the rest back, as a worker's warm end waits for its tasks."""
    from delivery import shutdown

    shutdown.request_for_all()


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close_channels(**_facts: object) -> None:
    """Close the connections to mail servers and providers, and remove the journal, when a worker process stops."""
    from delivery import process

    process.close_channels()
