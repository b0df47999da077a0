"""The environment of the demo: it uses variables that tune it, and ignores those of a deployment.

The demo must be safe to run in a shell that is set up for a deployment. So each variable that `config/settings.py`
reads is in one of these tables, and so are those that PostgreSQL's client, Celery, gunicorn and Django read themselves.
"""

from collections.abc import MutableMapping

TUNING = frozenset(
    {
        "ALARM_OVER_AFTER",
        "API_RATE_LIMIT",
        "BEAT_LATE",
        "CHANGE_DRIVEN_MATCHING",
        "DEBUG",
        "DUE_LATE",
        "EMAIL_CONNECTIONS",
        "EMAIL_TIMEOUT",
        "IN_FLIGHT",
        "LOGIN_TRIES",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "MAIL_FILES_MOST",
        "MAIL_FILE_LARGEST_MB",
        "MESSENGER_RATE_LIMIT",
        "METRICS_TOKEN",
        "PUSH_CONNECTIONS",
        "PUSH_TIMEOUT",
        "REFUSED_VISITORS_ALARM",
        "SWEEP_LATE",
        "WATCH_EVERY",
        "WEBHOOKS_TO_PRIVATE_ADDRESSES",
        "WEBHOOK_CONNECTIONS",
        "WEB_LONG_STATEMENT_TIMEOUT",
        "WEB_STATEMENT_TIMEOUT",
        "WORKER_CONCURRENCY",
    }
)
# Servers, folders, keys, addresses and host names of a deployment.
DEPLOYMENT = frozenset(
    {
        "ALLOWED_HOSTS",
        "BEHIND_PROXY",
        "BOUNCE_DOMAIN",
        "BROKER_DIR",
        "CACHE_URL",
        "CSRF_TRUSTED_ORIGINS",
        "DATABASE_CONN_MAX_AGE",
        "DATABASE_POOL_SIZE",
        "DATABASE_URL",
        "DEFAULT_FROM_EMAIL",
        "DEMO",
        "DJANGO_SETTINGS_MODULE",
        "DNS_SERVER",
        "EMAIL_BACKEND",
        "EMAIL_URL",
        "FCM_CREDENTIALS",
        "FCM_URL",
        "FEEDBACK_ADDRESS",
        "FLIGHTS_DIR",
        "FORWARDED_ALLOW_IPS",
        "GUNICORN_CMD_ARGS",
        "HTTPS",
        "INBOUND_DOMAIN",
        "MEDIA_BUCKET",
        "MEDIA_ROOT",
        "MESSAGE_ID_DOMAIN",
        "METRICS_DIR",
        "OIDC_CLIENT_ID",
        "OIDC_CLIENT_SECRET",
        "OIDC_ISSUER",
        "OIDC_NAME",
        "PROMETHEUS_MULTIPROC_DIR",
        "PUBLIC_URL",
        "SAML_CERTIFICATE",
        "SAML_ENTITY_ID",
        "SAML_NAME",
        "SAML_SSO_URL",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "SECURE_HSTS_INCLUDE_SUBDOMAINS",
        "SECURE_HSTS_PRELOAD",
        "SECURE_HSTS_SECONDS",
        "SECURE_SSL_REDIRECT",
        "WEBHOOK_SECRET",
        "WEB_CONCURRENCY",
    }
)
# Providers' keys, variables of Celery and OpenTelemetry, and PostgreSQL's (PGHOSTADDR names a server even beside an
# address).
DEPLOYMENT_PREFIXES = ("ANYMAIL_", "CELERY_", "OTEL_", "PG")

# The value that `config.celery` gives DJANGO_SETTINGS_MODULE.
OUR_SETTINGS = "config.settings"


def is_of_deployment(name: str) -> bool:
    """Return whether the demo must ignore this variable."""
    return name in DEPLOYMENT or name.startswith(DEPLOYMENT_PREFIXES)


def drop_deployment(environment: MutableMapping[str, str]) -> list[str]:
    """Remove the variables of a deployment; return the names of those whose value would have mattered."""
    found = sorted(name for name in environment if is_of_deployment(name))
    return [name for name in found if environment.pop(name) not in {"", OUR_SETTINGS}]
