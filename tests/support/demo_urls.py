"""The URLs of a server on which DEMO is set."""

from django.urls import include, path

from config.urls import urlpatterns as usual

urlpatterns = [path("demo/", include("config.demo.urls")), *usual]
