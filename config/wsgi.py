"""What gunicorn serves: `gunicorn config.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

from config import logs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

logs.quieten_gunicorn()
application = get_wsgi_application()

from outbound import timeouts  # noqa: E402 - needs the settings, which are read above

timeouts.limit_statements()
