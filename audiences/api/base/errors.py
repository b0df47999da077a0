"""Errors of the API as `{"type": "error.list", "request_id", "errors": [...]}` (wire 5.2)."""

import errno
import logging
from typing import Any
from uuid import uuid4

import psycopg
from django.db import OperationalError
from rest_framework import status
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.response import Response
from rest_framework.views import exception_handler, set_rollback

from audiences.intake import Conflict, Refused, Unknown
from audiences.intake.attributes.fields import replace_unstorable
from audiences.transactions import hit_time_limit

log = logging.getLogger(__name__)

# Exceptions of intake, subclasses first.
REFUSALS: tuple[tuple[type[Refused], int, str], ...] = (
    (Conflict, status.HTTP_409_CONFLICT, "conflict"),
    (Unknown, status.HTTP_404_NOT_FOUND, "not_found"),
    (Refused, status.HTTP_400_BAD_REQUEST, "parameter_invalid"),
)
CODES: dict[int, str] = {
    status.HTTP_401_UNAUTHORIZED: "unauthorized",
    status.HTTP_403_FORBIDDEN: "action_forbidden",
    status.HTTP_404_NOT_FOUND: "not_found",
    status.HTTP_409_CONFLICT: "conflict",
    status.HTTP_422_UNPROCESSABLE_ENTITY: "parameter_not_found",
    status.HTTP_429_TOO_MANY_REQUESTS: "rate_limit_exceeded",
    status.HTTP_503_SERVICE_UNAVAILABLE: "service_unavailable",
}


# Temporary database errors. Visits use psycopg directly and raise its own errors.
TEMPORARY_ERRORS = (OperationalError, psycopg.OperationalError)
DISK_FULL = "The server’s disk is full, so this was not saved. Its operator has to free space; then try again."
STATEMENT_CANCELED = "The request took too long, and nothing was changed. Request less data, or try again later."


def is_disk_full(exc: BaseException) -> bool:
    """Return whether the disk of this machine, or that of the database, had no space left."""
    if isinstance(exc, OSError):
        return exc.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(exc.__cause__ or exc, psycopg.errors.DiskFull)


def temporary_reason(exc: Exception) -> str:
    """Return why a request failed that may succeed later, as a text for its sender; "" if it is another error."""
    if hit_time_limit(exc):
        log.warning("a statement was canceled: it reached its time limit")
        return STATEMENT_CANCELED
    if is_disk_full(exc):
        log.error("a disk is full: %s", exc)
        return DISK_FULL
    return ""


class TooLarge(APIException):
    """The body is larger than DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large."


class CountTimeout(APIException):
    """Counting took too long. The text says what to request instead."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE


class Forbidden(APIException):
    """The action is not allowed for this customer (wire 5.9). The text gives the reason."""

    status_code = status.HTTP_403_FORBIDDEN


class MissingField(APIException):
    """A required field is missing (wire 5.2: 422)."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY

    def __init__(self, reason: str, *, field: str) -> None:
        super().__init__(reason)
        self.field = field


def error_list(code: str, message: str, *, status_code: int, field: str = "") -> Response:
    """Return a response with one error."""
    error = {"code": code, "message": replace_unstorable(message)}
    if field:
        error["field"] = field
    return Response({"type": "error.list", "request_id": str(uuid4()), "errors": [error]}, status=status_code)


def error_response(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response for a caller's error or a temporary one. Return None for a bug, so that it is reported."""
    for kind, status_code, code in REFUSALS:
        if isinstance(exc, kind):
            set_rollback()
            return error_list(code, str(exc), status_code=status_code, field=exc.field)
    if reason := temporary_reason(exc):
        set_rollback()
        return error_list("service_unavailable", reason, status_code=status.HTTP_503_SERVICE_UNAVAILABLE)
    if isinstance(exc, TEMPORARY_ERRORS):
        log.error("temporary database error", exc_info=exc)
        set_rollback()
        message = "The service is temporarily unavailable. Try again in a moment."
        return error_list("service_unavailable", message, status_code=status.HTTP_503_SERVICE_UNAVAILABLE)
    response = exception_handler(exc, context)
    if response is None:
        return None
    message = first_error_text(response.data)
    if isinstance(exc, AuthenticationFailed | NotAuthenticated):
        message = "Access Token Invalid"
    code = CODES.get(response.status_code, "bad_request")
    error = error_list(code, message, status_code=response.status_code, field=getattr(exc, "field", ""))
    for header, value in response.headers.items():
        error[header] = value
    return error


def first_error_text(detail: Any) -> str:
    """Return the first text in DRF's nested error detail."""
    while isinstance(detail, dict | list):
        if not detail:
            return "The request is invalid."
        detail = next(iter(detail.values())) if isinstance(detail, dict) else detail[0]
    return str(detail)
