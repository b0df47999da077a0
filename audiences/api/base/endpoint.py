"""Base class of the API's endpoints: JSON parser, rate limit, and a JSON 404 for unknown addresses under /api/."""

import json
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from typing import Any, Literal

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from gunicorn.http.errors import ParseException
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from audiences.api.base import idempotency
from audiences.api.base.errors import TooLarge
from audiences.api.base.ignored_keys import IGNORED_KEYS_HEADER, Keys, find_ignored_keys, header_value
from audiences.api.base.openapi import Parameter
from audiences.api.base.query import check_query
from audiences.api.base.rights import HasRight
from audiences.api.base.versions import check_version, refuse_foreign_keys
from audiences.intake import Refused
from audiences.models import Integration

# The official clients append the path of a `next` link to their base URL, which already ends in /api, and so request
# /api/api/users. The pattern of every address begins with this optional prefix.
REPEATED_API_PREFIX = "(?:api/)?"
# The right that a token needs for a call: read data, write data, or send messages and answers.
Right = Literal["read", "write", "send"]
# API_RATE_LIMIT is per minute; requests are counted in windows of this many seconds (wire 5.3).
RATE_WINDOW_SECONDS = 10


class JsonObject(BaseParser):
    """Parser of one JSON object in UTF-8. Anything else is a 400."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        """Return the parsed body."""
        max_size = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raw = stream.read(max_size + 1)
        if len(raw) > max_size:
            raise TooLarge
        try:
            parsed = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError) as wrong:
            raise ParseError("The body is not JSON in UTF-8.") from wrong
        if parsed == []:
            parsed = {}  # PHP encodes an object without keys as [].
        if not isinstance(parsed, dict):
            raise ParseError("The body must be a JSON object.")
        return parsed


class BrokenBody(BytesIO):
    """Body that could not be read. Reading it raises ParseError."""

    def read(self, _size: int | None = -1, /) -> bytes:
        raise ParseError("The body cannot be read: its chunks are invalid, or it ended too soon.")


class JsonNegotiation(BaseContentNegotiation):
    """Content negotiation that ignores the Accept header: every response is JSON, also an error."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        """Return the parser for the body's media type; None (a 415) if it is not JSON."""
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the only renderer."""
        return renderers[0], renderers[0].media_type


class RateLimit(BaseThrottle):
    """Rate limit per token and window. Counted in Django's cache, so it is exact only with a shared cache."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count this request. The view writes the numbers into the response headers."""
        if not settings.API_RATE_LIMIT or request.auth is None:
            return True
        now = int(timezone.now().timestamp())
        limit = -(-settings.API_RATE_LIMIT * RATE_WINDOW_SECONDS // 60)
        window = now // RATE_WINDOW_SECONDS
        key = f"api-rate-{request.auth.pk[:40]}-{window}"
        cache.add(key, 0, timeout=2 * RATE_WINDOW_SECONDS)
        try:
            used = cache.incr(key) or 1  # None while Redis is away.
        except ValueError:  # The cache evicted the key in the meantime.
            used = 1
        self.seconds_left = (window + 1) * RATE_WINDOW_SECONDS - now
        request.rate_limit = {  # type: ignore[attr-defined]
            "X-RateLimit-Limit": limit,
            "X-RateLimit-Remaining": max(limit - used, 0),
            "X-RateLimit-Reset": (window + 1) * RATE_WINDOW_SECONDS,
        }
        return used <= limit

    def wait(self) -> float | None:
        """Return the seconds until the next window."""
        return self.seconds_left


class Endpoint(APIView):
    """Base class of the API's views."""

    permission_classes: list[Any] = [IsAuthenticated, HasRight]
    parser_classes = [JsonObject]
    throttle_classes = [RateLimit]
    content_negotiation_class = JsonNegotiation
    # The query parameters of each method, by its name in lower case. The OpenAPI document shows the same ones.
    parameters: dict[str, tuple[Parameter, ...]] = {}
    # The methods, by their names in lower case, that need another right than "read" (GET) or "write" (all others).
    rights: dict[str, Right] = {}
    # Whether the right "write" is not enough, because the call makes Outbound send data to a URL of the caller.
    needs_read_to_write = False
    # The keys of a body that each method reads, given by the routes; without an entry nothing is checked.
    keys_read: Mapping[str, Keys | None] = {}

    @classmethod
    def right_for(cls, method: str) -> Right:
        """Return the right that a token needs for this method."""
        name = method.lower()
        return cls.rights.get(name, "read" if name in ("get", "head", "options") else "write")

    @property
    def required_right(self) -> Right:
        """The right that the token of the current request needs."""
        return self.right_for(str(self.request.method))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate and throttle, then refuse input that the call would silently ignore."""
        super().initial(request, *args, **kwargs)
        self.check_request(request)
        post: Any = getattr(self, "post", None)
        if post and isinstance(request.auth, Integration) and idempotency.has_key(request):
            # On this instance only, which answers one request.
            self.__dict__["post"] = partial(idempotency.answer_once, post)

    def check_request(self, request: Request) -> None:
        """Refuse other API versions, undeclared query parameters, and identity keys that the API does not read."""
        check_version(request)
        method = "get" if request.method == "HEAD" else str(request.method).lower()
        if method in ("options", "trace") or not hasattr(self, method):
            return
        check_query(request.query_params, self.parameters.get(method, ()))
        if method in ("post", "put", "patch"):
            refuse_foreign_keys(request.data)  # type: ignore[arg-type]  # JsonObject reads nothing else.
            self.ignored_keys.extend(find_ignored_keys(request.data, self.keys_read.get(method)))

    @cached_property
    def ignored_keys(self) -> list[str]:
        """The keys of this request's body that the call ignores, by their paths."""
        return []

    def note_without_effect(self, sent: Mapping[str, Any], *names: str) -> None:
        """Note keys that this call reads, but that have no effect in this request."""
        self.ignored_keys.extend(name for name in names if sent.get(name) not in (None, ""))

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Give a chunked body, as .NET clients send, a content length, because Django reads no body without one."""
        meta = request.META
        if meta.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked" and meta.get("wsgi.input_terminated"):
            try:
                raw = meta["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
                length, stream = len(raw), BytesIO(raw)
            except (ParseException, OSError):
                # An exception here would not become a JSON error, so raise it later, when the body is read.
                length, stream = 1, BrokenBody()
            meta["CONTENT_LENGTH"], request._stream = str(length), stream  # noqa: SLF001
        return super().initialize_request(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add the headers about the rate limit and ignored keys."""
        if self.ignored_keys:
            response[IGNORED_KEYS_HEADER] = header_value(self.ignored_keys)
        for header, value in getattr(request, "rate_limit", {}).items():
            response[header] = value
        return super().finalize_response(request, response, *args, **kwargs)


class UnknownAddress(Endpoint):
    """Fallback for unknown addresses under /api/."""

    def check_request(self, request: Request) -> None:
        """Check the version only: clients of other API versions mostly arrive here."""
        check_version(request)

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Answer 404 to every method."""
        raise NotFound(f"There is nothing at this address. {settings.PUBLIC_URL}/api/docs/ lists the calls.")

    options = http_method_not_allowed


class ApiRoot(UnknownAddress):
    """/api/: the addresses of the documentation, also for callers without a token."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def get(self, request: Request) -> Response:
        """Return the links."""
        here = f"{settings.PUBLIC_URL}/api"
        links = {"docs": f"{here}/docs/", "schema": f"{here}/schema"}
        return Response(
            {"type": "api", "version": "1.4", "links": links}, headers={"Link": f'<{links["docs"]}>; rel="help"'}
        )


def body(request: Request) -> dict[str, Any]:
    """Return the body, or refuse an empty one (wire 5.2)."""
    if not request.data:
        raise Refused("Body is required")
    return optional_body(request)


def optional_body(request: Request) -> dict[str, Any]:
    """Return the body, which may be empty."""
    sent: dict[str, Any] = request.data  # type: ignore[assignment]  # JsonObject reads nothing else.
    return sent
