"""`/healthz` for monitoring, `/metrics` for Prometheus."""

import logging
import socket
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from audiences.clock import compare_clocks
from config.celery import app
from delivery.monitoring import health
from delivery.telemetry import metrics as delivery_metrics

log = logging.getLogger(__name__)


def broker_answers() -> bool:
    try:
        with app.connection_for_write(connect_timeout=2) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=2)
    except Exception:
        log.warning("the broker cannot be reached", exc_info=True)
        return False
    return True


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """Answer 200 if every part works, else 503, with the state of each part. The answer has no data of messages."""
    found: dict[str, dict[str, Any]] = {"database": {"ok": True}, "broker": {"ok": broker_answers()}}
    try:
        clocks = compare_clocks(timezone.now)
        seconds = round(clocks.ahead.total_seconds(), 1)
        found["clock"] = {"ok": not health.clock_is_wrong(clocks.ahead), "seconds_ahead": seconds}
        found |= health.health_report(at=clocks.at)
    except Error:
        log.warning("the database cannot be reached", exc_info=True)
        found["database"] = {"ok": False}
        connection.close()
    is_healthy = all(each["ok"] for each in found.values())
    return JsonResponse({"ok": is_healthy, **found}, status=200 if is_healthy else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer Prometheus, which sends METRICS_TOKEN as a Bearer token. Without METRICS_TOKEN there is no such page."""
    if not settings.METRICS_TOKEN:
        raise Http404("METRICS_TOKEN is not set.")
    given = request.headers.get("Authorization", "")
    if not constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        return HttpResponse("Send METRICS_TOKEN as a Bearer token.", status=401, headers={"WWW-Authenticate": "Bearer"})
    body = "\n".join([*database_metrics(), ""]).encode() + delivery_metrics.render_metrics()
    return HttpResponse(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def database_metrics() -> Iterator[str]:
    """Yield the metrics that come from the database: the same in every process."""
    yield "# HELP outbound_records Delivery records by status, and what became of the sent ones"
    yield "# TYPE outbound_records gauge"
    for channel, numbers in health.record_counts():
        for what, number in numbers.items():
            yield f'outbound_records{{channel="{channel}",what="{what}"}} {number}'
    clocks = compare_clocks(timezone.now)
    yield "# HELP outbound_clock_ahead_seconds Seconds that the clock of a machine is ahead of the database's"
    yield "# TYPE outbound_clock_ahead_seconds gauge"
    ahead = {clock.machine: clock.ahead for clock in health.known_clocks(at=clocks.at)}
    for machine, difference in (ahead | {socket.gethostname(): clocks.ahead}).items():
        yield f'outbound_clock_ahead_seconds{{machine="{machine}"}} {difference.total_seconds():.3f}'
    for name, found in health.health_report(at=clocks.at).items():
        yield f"# HELP outbound_{name}_age_seconds {AGES[name]}"
        yield f"# TYPE outbound_{name}_age_seconds gauge"
        yield f"outbound_{name}_age_seconds {found['seconds'] or 0}"


AGES = {
    "beat": "Seconds since beat last queued a task",
    "sweep": "Seconds since a sweep was last completed",
    "oldest_due": "Seconds since the oldest waiting record was due",
}
