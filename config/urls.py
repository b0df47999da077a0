"""Where every address leads; each app keeps its own part."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("delivery.urls")),
]

if settings.DEMO:
    urlpatterns.append(path("demo/", include("config.demo.urls")))
