"""Addresses inside messages."""

from django.urls import path

from delivery import views

app_name = "delivery"
urlpatterns = [
    path("m/unsubscribe/<str:token>", views.unsubscribe, name="unsubscribe"),
]
