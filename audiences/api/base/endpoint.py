"""What all endpoints of the API share: JSON in and out, the rate limit, and a 404 in JSON for the rest of /api/."""

import json
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone
from gunicorn.http.errors import ParseException
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from audiences.api.base.errors import TooLarge
from audiences.api.base.openapi import Parameter
from audiences.api.base.query import check_query
from audiences.api.base.versions import HEADER, check_version, refuse_foreign_keys
from audiences.intake import Refused

# The official clients put the path of a `next` link behind their base URL, which ends in /api itself, and so ask for
# the rest of a list at /api/api/users. Every address of the API begins with this.
AGAIN = "(?:api/)?"
# The limit is a minute's, counted in windows of this many seconds (wire 5.3).
WINDOW = 10


class JsonObject(BaseParser):
    """One JSON object in UTF-8, or a 400 that says what it is instead."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        """Read the body."""
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raw = stream.read(most + 1)
        if len(raw) > most:
            raise TooLarge
        try:
            read = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError) as wrong:
            raise ParseError("The body is not JSON in UTF-8.") from wrong
        if read == []:
            read = {}  # An object without keys, as PHP writes it.
        if not isinstance(read, dict):
            raise ParseError("The body must be a JSON object.")
        return read


class Broken(BytesIO):
    """A body of which no more came than that it makes no sense; whoever reads it is told."""

    def read(self, _size: int | None = -1, /) -> bytes:
        """Refuse."""
        raise ParseError("The body cannot be read: its chunks are broken, or it ended too soon.")


class AlwaysJson(BaseContentNegotiation):
    """Answer in JSON whatever is said to be acceptable: there is nothing else, and errors must be readable."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        """Return the parser for the body's type, None (a 415) where it is not JSON."""
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the only renderer."""
        return renderers[0], renderers[0].media_type


class RateLimit(BaseThrottle):
    """So many requests per token in each window; kept in Django's cache, so exact where that is shared."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count this one; the view puts the count in the answer's headers."""
        if not settings.API_RATE_LIMIT or request.auth is None:
            return True
        now = int(timezone.now().timestamp())
        limit = -(-settings.API_RATE_LIMIT * WINDOW // 60)
        window = now // WINDOW
        key = f"api-rate-{request.auth.pk[:40]}-{window}"
        cache.add(key, 0, timeout=2 * WINDOW)
        try:
            used = cache.incr(key) or 1  # None while Redis is away.
        except ValueError:  # Dropped by the cache in between.
            used = 1
        self.seconds_left = (window + 1) * WINDOW - now
        request.rate_limit = {  # type: ignore[attr-defined]
            "X-RateLimit-Limit": limit,
            "X-RateLimit-Remaining": max(limit - used, 0),
            "X-RateLimit-Reset": (window + 1) * WINDOW,
        }
        return used <= limit

    def wait(self) -> float | None:
        """Return the seconds until the next window."""
        return self.seconds_left


class Endpoint(APIView):
    """An address of the API."""

    parser_classes = [JsonObject]
    throttle_classes = [RateLimit]
    content_negotiation_class = AlwaysJson
    # The query parameters of each method, by its name in lower case. The OpenAPI document shows the same ones.
    parameters: dict[str, tuple[Parameter, ...]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let in who may call, then refuse whatever the call would silently ignore."""
        super().initial(request, *args, **kwargs)
        self.check_request(request)

    def check_request(self, request: Request) -> None:
        """Refuse other versions of the API, undeclared query parameters, and identity keys that nobody reads."""
        check_version(request.headers.get(HEADER, ""))
        method = "get" if request.method == "HEAD" else str(request.method).lower()
        if method in ("options", "trace") or not hasattr(self, method):
            return
        check_query(request.query_params, self.parameters.get(method, ()))
        if method in ("post", "put", "patch"):
            refuse_foreign_keys(request.data)  # type: ignore[arg-type]  # JsonObject reads nothing else.

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Take a body that came in chunks, as .NET sends all JSON, for one that said how long it is."""
        came = request.META
        if came.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked" and came.get("wsgi.input_terminated"):
            try:
                raw = came["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
                length, stream = len(raw), BytesIO(raw)
            except (ParseException, OSError):
                # Only what is raised while the request is handled is answered in JSON, so it is when it is read.
                length, stream = 1, Broken()
            came["CONTENT_LENGTH"], request._stream = str(length), stream  # noqa: SLF001
        return super().initialize_request(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Say how much of the limit is left."""
        for header, value in getattr(request, "rate_limit", {}).items():
            response[header] = value
        return super().finalize_response(request, response, *args, **kwargs)


class Nowhere(Endpoint):
    """Any address under /api/ that is none."""

    def check_request(self, request: Request) -> None:
        """Tell clients of other versions so: most of what they miss here are their addresses."""
        check_version(request.headers.get(HEADER, ""))

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """There is nothing here."""
        raise NotFound("There is nothing at this address.")

    options = http_method_not_allowed


def body(request: Request) -> dict[str, Any]:
    """Return the body, which must hold something (wire 5.2)."""
    if not request.data:
        raise Refused("Body is required")
    sent: dict[str, Any] = request.data  # type: ignore[assignment]  # JsonObject reads nothing else.
    return sent
