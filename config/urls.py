"""All URLs; each app defines its own part."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from audiences.api import schema as audiences_schema
from audiences.api.base.endpoint import ApiRoot, UnknownAddress
from audiences.api.base.routing import api_routes
from config import health
from delivery.inbound import esp_webhooks
from outbound.api import schema as outbound_schema
from outbound.composer.images import serve_image


def provider_webhooks() -> list[URLPattern | URLResolver]:
    """Return the URLs for email providers; none without a secret, because then anyone could post."""
    secret = settings.WEBHOOK_SECRET
    return [path("webhooks/anymail/", include((esp_webhooks.urlpatterns, "anymail")))] if secret else []


handler400 = "outbound.console.idempotency.bad_request"

urlpatterns: list[URLPattern | URLResolver] = [
    # Shortcuts for people who type the address.
    *(path(typed, RedirectView.as_view(pattern_name="admin:index")) for typed in ("", "admin")),
    # Before the console's URLs: it has pages of its own for the login and the password.
    path("admin/", include("outbound.signin.urls")),
    path("admin/", admin.site.urls),
    path("pictures/<str:name>", serve_image, name="picture"),
    path("healthz", health.healthz, name="healthz"),
    path("metrics", health.metrics, name="metrics"),
    re_path(r"^api/?$", ApiRoot.as_view()),
    re_path(r"^api/schema/?$", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"^api/docs/?$", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    *api_routes(
        outbound_schema.ADDRESSES,
        calls=outbound_schema.CALLS,
        schemas={**audiences_schema.SCHEMAS, **outbound_schema.SCHEMAS},
    ),
    path("", include("delivery.urls")),
    path("api/", include("audiences.urls")),
]

urlpatterns += provider_webhooks()

if settings.DEMO:
    urlpatterns.append(path("demo/", include("config.demo.urls")))

# Last: every other path below /api/ is a 404 in the format of the API.
urlpatterns.append(re_path(r"^api(/|$)", UnknownAddress.as_view()))
