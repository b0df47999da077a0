"""The application of the ping benchmark: Outbound, and a bare DRF view to compare with."""

# ruff: noqa: E402 - imports that need Django come after its set-up
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.wsgi import get_wsgi_application

product = get_wsgi_application()

from django.urls import path
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audiences.models import Customer
from config import urls


class BareView(APIView):
    """The least that a ping can do: one SELECT and one UPDATE."""

    authentication_classes: list[type] = []
    permission_classes: list[type] = []

    def post(self, request: Request) -> Response:
        customer = Customer.objects.get(user_id=request.data["user"]["user_id"])
        Customer.objects.filter(pk=customer.pk).update(last_seen_at=timezone.now())
        return Response({"type": "ping", "user": {"type": "user", "id": str(customer.pk)}, "messages": []})


urls.urlpatterns.insert(0, path("bare", BareView.as_view()))
application = product
