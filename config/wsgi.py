"""The WSGI application: `gunicorn config.wsgi`."""

import os
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from config import logs
from delivery.inbound.charsets import with_safe_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

logs.mask_gunicorn_logs()
django_application = get_wsgi_application()

from outbound.console import timeouts  # noqa: E402 - needs the settings, which are read above

timeouts.limit_statements()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer a request. Django decodes it with the codec of its Content-Type before any middleware: limit that."""
    if content_type := environ.get("CONTENT_TYPE"):
        environ["CONTENT_TYPE"] = with_safe_parameters(content_type)
    return django_application(environ, start_response)
