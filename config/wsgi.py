"""The WSGI application: `gunicorn config.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

from config import logs
from delivery.inbound.charsets import SafeContentType

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

logs.mask_gunicorn_logs()
application = SafeContentType(get_wsgi_application())

from outbound.console import timeouts  # noqa: E402 - needs the settings, which are read above

timeouts.limit_statements()
