"""Settings of the Django project with django-post_office and django-drip-campaigns."""

import os
from urllib.parse import parse_qs, urlsplit

database, mail_server = urlsplit(os.environ["DATABASE_URL"]), urlsplit(os.environ["EMAIL_URL"])
place = parse_qs(database.query)

SECRET_KEY = "a key for measurements"  # noqa: S105 - guards nothing
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "post_office", "drip"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.path[1:],
        "USER": database.username,
        "HOST": place["host"][0],
        "PORT": place["port"][0],
    }
}
EMAIL_HOST, EMAIL_PORT = mail_server.hostname, mail_server.port
POST_OFFICE = {
    "BATCH_SIZE": 1000,
    "THREADS_PER_PROCESS": int(os.environ["THREADS_PER_PROCESS"]),
    "MESSAGE_ID_ENABLED": True,
    "LOG_LEVEL": 1,  # Log failures only: a log row for each email would cost it time.
}
# Each process of django-post_office writes lines about its work unless the logger has a handler.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler", "level": "WARNING"}},
    "loggers": {"post_office": {"handlers": ["console"], "level": "WARNING"}},
}
