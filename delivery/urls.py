"""Addresses inside messages, of the messenger, and of the API about messages and conversations."""

from django.urls import URLPattern, path, re_path

from audiences.api.endpoint import Endpoint
from delivery import views, widget
from delivery.api.conversations import Conversations, OneConversation
from delivery.api.messages import Messages
from delivery.api.messenger_addresses import MESSENGER
from delivery.api.replies import Reply

app_name = "delivery"
# Each with and without a slash at its end (wire.md 5.1).
ENDPOINTS: dict[str, type[Endpoint]] = {
    "api/conversations": Conversations,
    "api/conversations/(?P<pk>[^/]+)": OneConversation,
    "api/conversations/(?P<pk>[^/]+)/reply": Reply,
    "api/messages": Messages,
    **MESSENGER,
}
urlpatterns: list[URLPattern] = [
    path("m/unsubscribe/<str:token>", views.unsubscribe, name="unsubscribe"),
    path("messenger/messenger.js", widget.script, name="messenger"),
    path("messenger/images/<str:name>", widget.image, name="image"),
    *(re_path(rf"^{address}/?$", view.as_view()) for address, view in ENDPOINTS.items()),
]
