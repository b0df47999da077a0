"""All settings, read from environment variables. A wrong value stops the start with a message that names it.

behaviour 2 lists the parts. Without any variable this is a development machine: embedded PostgreSQL, a broker of files
in `.data/`, email to 127.0.0.1:1025.
"""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from config.environment import otel, sign_in, storage, urls, variables
from config.environment.extras import require_package
from config.environment.variables import DAY, HOUR, WEEK, read_flag, read_number, read_text
from config.postgres import embedded
from config.postgres.sessions import CLIENT_OPTIONS
from config.static_files import digest_of_files
from config.theme import UNFOLD  # noqa: F401 - a setting

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = BASE_DIR / ".data"


def local_secret() -> str:
    """Return the secret key of this clone; create it on first use, readable by its owner only."""
    path = DATA_DIR / "secret_key"
    if not path.exists():
        DATA_DIR.mkdir(mode=0o700, exist_ok=True)
        draft = DATA_DIR / f"secret_key.{secrets.token_hex(4)}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # Another process of this clone was first: use its key.
        finally:
            draft.unlink()
    return path.read_text()


DEBUG = read_flag("DEBUG", default=False)
DEMO = read_flag("DEMO", default=False)
DATABASES: dict[str, dict[str, Any]] = {"default": urls.read_database("DATABASE_URL", default=embedded.url())}
HAS_OWN_DATABASE = "DATABASE_URL" in os.environ and not embedded.is_embedded(os.environ["DATABASE_URL"])
if DEMO and HAS_OWN_DATABASE:
    raise ImproperlyConfigured("DEMO must not be set if DATABASE_URL names your own server. Run `make demo` instead.")
SECRET_KEY = read_text("SECRET_KEY")
if not SECRET_KEY.strip():
    if HAS_OWN_DATABASE:
        raise ImproperlyConfigured("SECRET_KEY must be set if DATABASE_URL names your own server.")
    SECRET_KEY = local_secret()
SECRET_KEY_FALLBACKS = variables.read_list("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = variables.read_list(
    "ALLOWED_HOSTS",
    default=["127.0.0.1", "localhost", "[::1]", "testserver"],
    entry=variables.HOST,
    means="host names without scheme and port, such as outbound.example.com",
)
CSRF_TRUSTED_ORIGINS = variables.read_list(
    "CSRF_TRUSTED_ORIGINS",
    entry=variables.ORIGIN,
    means="origins with their scheme, such as https://outbound.example.com",
)
# The start of links and images in messages, without a trailing slash.
PUBLIC_URL = urls.read_public_url("PUBLIC_URL", default="http://127.0.0.1:8000")

INSTALLED_APPS = [
    "config.apps.ConfigConfig",
    "outbound",
    "delivery",
    "messaging",
    "audiences",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "config.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "anymail",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    *sign_in.APPS,
    "axes",
    "corsheaders",
    "csp",
    "django_celery_beat",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "pgtrigger",
    "rest_framework",
]
MIDDLEWARE = [
    "delivery.messenger.origins.MessengerCors",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "outbound.signin.layout.SignInPages",
    "outbound.signin.middleware.ListedSessions",
    "outbound.signin.middleware.RequiredSecondFactor",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "outbound.console.middleware.WorkspaceZone",
    "outbound.console.timeouts.StatementTimeout",
    # Last: it looks at the result of a login.
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
# The official clients post to both `/users` and `/users/` (wire 5.1), so both are routed and neither is redirected.
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "outbound.signin.layout.page_layout",
            ]
        },
    }
]

DATABASES["default"]["OPTIONS"] = {
    # Notice a vanished server within 10 seconds, instead of the hours that the system would wait.
    **CLIENT_OPTIONS,
    **DATABASES["default"].get("OPTIONS", {}),
    # Only the statements of a visit ask to be prepared.
    "prepare_threshold": 5,
}
if pool_size := read_number("DATABASE_POOL_SIZE", default=0, most=1000):
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": pool_size}
else:
    DATABASES["default"]["CONN_MAX_AGE"] = read_number("DATABASE_CONN_MAX_AGE", default=600, most=WEEK)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
# Seconds after which a statement of a web process is cancelled and answered with 503. The second one is for exports,
# uploads and changes of a whole list. 0 is no limit. Workers have no limit.
WEB_STATEMENT_TIMEOUT = read_number("WEB_STATEMENT_TIMEOUT", default=30, most=DAY)
WEB_LONG_STATEMENT_TIMEOUT = read_number("WEB_LONG_STATEMENT_TIMEOUT", default=600, most=DAY)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# redis://host/1: all processes and machines count requests together. Without it each process counts on its own.
if CACHE_URL := urls.read_service("CACHE_URL", urls.CACHE_SCHEMES, example="redis://host/1"):
    # While Redis is away, the cache behaves like an empty one and logs the error.
    options = {"IGNORE_EXCEPTIONS": True, "SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": CACHE_URL, "OPTIONS": options}}
    DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True
else:
    # Django's default is 300 entries: requests as 300 visitors would push out the counters of failed logins.
    in_memory = "django.core.cache.backends.locmem.LocMemCache"
    CACHES = {"default": {"BACKEND": in_memory, "OPTIONS": {"MAX_ENTRIES": 100_000}}}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
FORMAT_MODULE_PATH = ["outbound.formats"]
USE_TZ = True

# With a digest of our files, so that a browser never mixes script modules of two versions: relative imports stay below
# this URL.
STATIC_URL = f"static/{digest_of_files(BASE_DIR / 'static')}/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_URL = "media/"
MEDIA_ROOT = read_text("MEDIA_ROOT", default=str(DATA_DIR / "media"))
# A private bucket instead of MEDIA_ROOT: "bucket" or "bucket/folder".
STORAGES = storage.read_storage("MEDIA_BUCKET")
# How many attachments of one inbound email are saved, and the maximum size of each.
MAIL_FILES_MOST = read_number("MAIL_FILES_MOST", default=20, most=1000)
MAIL_FILE_LARGEST = read_number("MAIL_FILE_LARGEST_MB", default=25, most=1000) * 2**20
WHITENOISE_USE_FINDERS = True

vars().update(sign_in.read_settings())

SECURE_CONTENT_TYPE_NOSNIFF = True
HTTPS = read_flag("HTTPS", default=PUBLIC_URL.startswith("https://"))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = read_flag("SECURE_SSL_REDIRECT", default=HTTPS)
# A load balancer and Prometheus send requests inside the network without TLS.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^metrics$"]
SECURE_HSTS_SECONDS = read_number("SECURE_HSTS_SECONDS", default=31_536_000 if HTTPS else 0, most=10 * 365 * DAY)
SECURE_HSTS_INCLUDE_SUBDOMAINS = read_flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=HTTPS)
# The preload list of browsers concerns a whole domain and is hard to undo, so its owner decides.
SECURE_HSTS_PRELOAD = read_flag("SECURE_HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = ["security.W021"]
# Forms send their own token; no script reads the cookie.
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
BEHIND_PROXY = read_flag("BEHIND_PROXY", default=False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Only script files from this server: no inline scripts, none from other hosts. Alpine and htmx, which Unfold uses,
# evaluate expressions in our templates and need unsafe-eval. Staff use images from any host.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'", "'unsafe-eval'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:", "http:", "https:"],
        "font-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# smtp+tls://user:password@host:587 or similar (the demo's mail server listens on 1025), or a provider such as
# anymail://postmark, with its own variables such as ANYMAIL_POSTMARK_SERVER_TOKEN (docs/email.md).
email = urls.read_email("EMAIL_URL", default="smtp://127.0.0.1:1025")
vars().update(email)
EMAIL_BACKEND = email.get("EMAIL_BACKEND") or read_text("EMAIL_BACKEND", default="delivery.channels.smtp.EmailBackend")
EMAIL_TIMEOUT = read_number("EMAIL_TIMEOUT", default=30, least=1, most=HOUR)
DEFAULT_FROM_EMAIL = variables.read_sender("DEFAULT_FROM_EMAIL", default="outbound@localhost.localdomain")
MESSAGE_ID_DOMAIN = variables.read_domain(
    "MESSAGE_ID_DOMAIN", default=DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip("> "), example="mail.example.com"
)
# The domain of reply addresses; its email comes to Outbound (docs/email.md). "": replies go to the sender.
INBOUND_DOMAIN = variables.read_domain("INBOUND_DOMAIN", example="reply.example.com")
# The domain of bounce addresses, the envelope senders of email sent by SMTP. "": bounces go to the sender's address.
BOUNCE_DOMAIN = variables.read_domain("BOUNCE_DOMAIN", example="bounce.example.com")
# The address to which mailbox providers send complaints (docs/email.md). "": they count at bounce addresses only.
FEEDBACK_ADDRESS = variables.read_email_address("FEEDBACK_ADDRESS", example="fbl@example.com")
# The DNS server of domain checks, as (address, port). None: those of the system.
DNS_SERVER = variables.read_dns_server("DNS_SERVER")
# Providers must send one of these (user:password) to /webhooks/anymail/; without any, that URL does not exist.
WEBHOOK_SECRET = variables.read_secrets("WEBHOOK_SECRET")
ANYMAIL: dict[str, Any] = {
    **{
        name.removeprefix("ANYMAIL_"): {"true": True, "false": False}.get(value.lower(), value)
        for name, value in os.environ.items()
        if name.startswith("ANYMAIL_")
    },
    "WEBHOOK_SECRET": WEBHOOK_SECRET,
    "REQUESTS_TIMEOUT": EMAIL_TIMEOUT,
}

# The key of a Firebase service account, as JSON or as the path of a file. Without it, pushes are only logged.
FCM_CREDENTIALS = read_text("FCM_CREDENTIALS")
if FCM_CREDENTIALS:
    require_package("FCM_CREDENTIALS", module="firebase_admin", package="firebase-admin", lock="requirements-push.lock")
FCM_URL = urls.read_public_url("FCM_URL", default="https://fcm.googleapis.com")
PUSH_TIMEOUT = read_number("PUSH_TIMEOUT", default=15, least=1, most=HOUR)

# How many connections all worker processes together keep to the mail server or ESP, and to Firebase.
EMAIL_CONNECTIONS = read_number("EMAIL_CONNECTIONS", default=20, least=1, most=1000)
PUSH_CONNECTIONS = read_number("PUSH_CONNECTIONS", default=20, least=1, most=1000)
# Subscribers of webhooks that a worker sends to at the same time, each one request at a time.
WEBHOOK_CONNECTIONS = read_number("WEBHOOK_CONNECTIONS", default=100, least=1, most=1000)
# How many records of one message a worker process claims at once. It has at most so many more in hand than connections.
IN_FLIGHT = read_number("IN_FLIGHT", default=100, least=1, most=1000)
# The folder of the workers' journals, shared by the workers of one machine.
FLIGHTS_DIR = read_text("FLIGHTS_DIR", default=str(DATA_DIR / "in-hand"))

CELERY_BROKER_URL = urls.read_service("CELERY_BROKER_URL", urls.BROKER_SCHEMES, example="redis://host/0")
# A nudge does not wait for a broker that is down: one retry at once, for a broker with a standby.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {"max_retries": 1, "interval_start": 0}
if not CELERY_BROKER_URL:
    BROKER_DIR = Path(read_text("BROKER_DIR", default=str(DATA_DIR / "broker")))
    BROKER_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The transport of config.broker, which config.celery registers.
    CELERY_BROKER_URL = "files://"
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"folder": str(BROKER_DIR), "polling_interval": 0.2}
CELERY_TIMEZONE = "UTC"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# One is for sending, one for webhooks while subscribers take long to answer, and two for everything else.
CELERY_WORKER_CONCURRENCY = read_number("WORKER_CONCURRENCY", default=4, least=1, most=1000)
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
# Store the time of each run at once, not every few minutes: the alarm for a missing beat reads it.
CELERY_BEAT_SYNC_EVERY = 1

# Whether hourly rounds judge only customers who changed; if off, every round judges everyone.
CHANGE_DRIVEN_MATCHING = read_flag("CHANGE_DRIVEN_MATCHING", default=True)

# Seconds without beat, without a sweep, and with due records that are not sent, before an alarm and a 503 of /healthz;
# seconds between two checks; seconds without the problem before an alarm ends.
BEAT_LATE = timedelta(seconds=read_number("BEAT_LATE", default=300, least=1, most=WEEK))
SWEEP_LATE = timedelta(seconds=read_number("SWEEP_LATE", default=180, least=1, most=WEEK))
DUE_LATE = timedelta(seconds=read_number("DUE_LATE", default=600, least=1, most=WEEK))
WATCH_EVERY = read_number("WATCH_EVERY", default=60, least=1, most=HOUR)
ALARM_OVER_AFTER = timedelta(seconds=read_number("ALARM_OVER_AFTER", default=300, least=1, most=WEEK))
# Visitors per day with an invalid user_hash that raise an alarm.
REFUSED_VISITORS_ALARM = read_number("REFUSED_VISITORS_ALARM", default=20, most=1_000_000)
# Whether webhooks may be sent to this machine and to private networks. Leave it off unless you trust all teammates with
# access to the network of this machine.
WEBHOOKS_TO_PRIVATE_ADDRESSES = read_flag("WEBHOOKS_TO_PRIVATE_ADDRESSES", default=DEBUG or DEMO)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["audiences.api.base.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "audiences.api.base.errors.error_response",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "config.openapi.CallSchema",
    # Behind a proxy, the client address is the one that the proxy sends; otherwise that header is ignored.
    "NUM_PROXIES": 1 if BEHIND_PROXY else 0,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Outbound",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_AUTHENTICATION": [],
    "SERVE_INCLUDE_SCHEMA": False,
    "PREPROCESSING_HOOKS": ["config.openapi.described_endpoints"],
    "POSTPROCESSING_HOOKS": ["config.openapi.add_schemas"],
    "SORT_OPERATIONS": False,
    # Serve the page's scripts from this server.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
# Requests per minute and token, counted in windows of 10 seconds (wire 5.3); 0 is no limit.
API_RATE_LIMIT = read_number("API_RATE_LIMIT", default=1000, most=1_000_000)
# The same for each visitor of a website with the messenger; ten times as many for one IP address.
MESSENGER_RATE_LIMIT = read_number("MESSENGER_RATE_LIMIT", default=120, most=1_000_000)
# The workspace lists the websites that may use the messenger (delivery.messenger.origins). Other URLs are same-origin.
CORS_URLS_REGEX = r"^/messenger/"
CORS_ALLOW_METHODS = ("GET", "POST")
CORS_ALLOW_HEADERS = ("authorization", "content-type", "if-none-match")
CORS_EXPOSE_HEADERS = ("ETag",)
CORS_PREFLIGHT_MAX_AGE = 7200
REST_KNOX = {"TOKEN_MODEL": "audiences.Integration", "TOKEN_TTL": None, "AUTO_REFRESH": False}
# Its token model is replaced by ours, so its migrations would only create an unused table.
MIGRATION_MODULES = {"knox": None}
KNOX_TOKEN_MODEL = "audiences.Integration"  # noqa: S105 - the name of a model

# Migrations contain the triggers as SQL, so that none is installed outside of a migration.
PGTRIGGER_INSTALL_ON_MIGRATE = False

# The Bearer token for /metrics. Without it, nothing is measured and the page does not exist.
METRICS_TOKEN = read_text("METRICS_TOKEN")
METRICS_DIR = read_text("METRICS_DIR", default=str(DATA_DIR / "metrics"))

# Whether spans are exported to an OpenTelemetry collector, which the standard OTEL_* variables name.
if TRACING := otel.read_tracing():
    MIDDLEWARE = ["delivery.telemetry.request_traces.RequestTraces", *MIDDLEWARE]

LOG_FORMATS, LOG_LEVELS = ("line", "json"), ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "config.logs.Lines", "fmt": "{asctime} {levelname} {name}: {message}", "style": "{"},
        "json": {"()": "config.logs.JsonLines"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": variables.read_choice("LOG_FORMAT", LOG_FORMATS, default="line"),
        }
    },
    "root": {"handlers": ["console"], "level": variables.read_choice("LOG_LEVEL", LOG_LEVELS, default="INFO")},
    "loggers": {
        "flufl.bounce": {"level": "ERROR"},  # It logs each of its detectors, for each notice.
        "kombu.connection": {"level": "ERROR"},  # It warns that the URL of the embedded broker has no host.
        # The development server's access log, by the same formatter as all else.
        "django.server": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
