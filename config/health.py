"""/healthz for whoever watches that it runs, /metrics for Prometheus."""

import logging
from collections.abc import Iterator

from django.conf import settings
from django.db import Error, connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.celery import app
from delivery import metrics as delivery_metrics
from delivery.monitoring import health

log = logging.getLogger(__name__)


def broker_answers() -> bool:
    """Whether the broker can be reached right now."""
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
    """Say whether all that must run does: 200, or 503 with what does not. It says nothing of what is sent to whom."""
    at = timezone.now()
    found = {"database": {"ok": True}, "broker": {"ok": broker_answers()}}
    try:
        found |= health.health_report(at=at)
    except Error:
        log.warning("the database cannot be asked", exc_info=True)
        found["database"] = {"ok": False}
        connection.close()
    well = all(each["ok"] for each in found.values())
    return JsonResponse({"ok": well, **found}, status=200 if well else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads, for who has METRICS_TOKEN as a Bearer token; without one set there is nothing."""
    if not settings.METRICS_TOKEN:
        raise Http404("METRICS_TOKEN is not set.")
    given = request.headers.get("Authorization", "")
    if not constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        return HttpResponse("METRICS_TOKEN is asked for.", status=401, headers={"WWW-Authenticate": "Bearer"})
    body = "\n".join([*counted(), ""]).encode() + delivery_metrics.render_metrics()
    return HttpResponse(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def counted() -> Iterator[str]:
    """What is read from the database: the same for whichever process is asked."""
    yield "# HELP outbound_records Delivery records: all that were matched, by status, and what came of those sent"
    yield "# TYPE outbound_records gauge"
    for channel, numbers in health.record_counts():
        for what, number in numbers.items():
            yield f'outbound_records{{channel="{channel}",what="{what}"}} {number}'
    for name, found in health.health_report(at=timezone.now()).items():
        yield f"# HELP outbound_{name}_age_seconds {AGES[name]}"
        yield f"# TYPE outbound_{name}_age_seconds gauge"
        yield f"outbound_{name}_age_seconds {found['seconds'] or 0}"


AGES = {
    "beat": "Since beat last asked for something",
    "sweep": "Since a sweep last ran to its end",
    "oldest_due": "Since the copy that waits longest was due",
}
