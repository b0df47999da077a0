"""The statement timeout of web processes, and the answer to a request that exceeds it.

Workers and commands have no such limit: only `config.wsgi` sets it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from audiences.api.base.errors import STATEMENT_CANCELED, temporary_reason

log = logging.getLogger(__name__)

NO_LIMIT = "0"
# The driver's connections that have the limit already: a pool reuses its connections.
LIMITED: "WeakSet[Any]" = WeakSet()


def limit_statements() -> None:
    """Set WEB_STATEMENT_TIMEOUT on every connection that this process opens from now on."""
    # Set by a statement, because a pooler in between refuses unknown connection parameters.
    connection_created.connect(limit_connection, dispatch_uid="outbound.console.timeouts")


def limit_connection(*, connection: Any, **_facts: Any) -> None:
    if settings.WEB_STATEMENT_TIMEOUT and connection.connection not in LIMITED:
        set_timeout(connection, f"{settings.WEB_STATEMENT_TIMEOUT}s")
        LIMITED.add(connection.connection)


def set_timeout(connection: Any, timeout: str) -> None:
    """Set the statement timeout of a connection, such as "30s"."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [timeout])


@contextmanager
def longer_statements() -> Iterator[None]:
    """Use WEB_LONG_STATEMENT_TIMEOUT: for exports, uploads, and bulk actions on a whole list."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        before = cursor.fetchone()[0]
    if before == NO_LIMIT:
        yield
        return
    set_timeout(connection, f"{settings.WEB_LONG_STATEMENT_TIMEOUT}s")
    try:
        yield
    finally:
        try:
            set_timeout(connection, before)
        except DatabaseError:
            # The connection or its transaction is broken: do not reuse it with the longer limit.
            connection.close()


class StatementTimeout:
    """Answer 503 if a statement of a page was canceled, or a disk is full; the API has its own error handler."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Explain it: on a page for a browser, in JSON for a script."""
        if not (reason := temporary_reason(exception)):
            return None
        log.warning("a request failed for a while: %s", request.path)
        if request.accepts("text/html") and "text/html" in request.headers.get("Accept", ""):
            facts = {"reason": reason, "is_timeout": reason == STATEMENT_CANCELED}
            return render(request, "503.html", facts, status=503)
        return JsonResponse({"wrong": reason}, status=503)
