"""URLs in messages, of the messenger, and of the API about messages and conversations."""

from django.urls import URLPattern, path, re_path

from audiences.api import schema as audiences_schema
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.routing import api_routes
from delivery.api import schema
from delivery.api.conversations import Conversations, OneConversation
from delivery.api.counts import AllCounts
from delivery.api.jobs import BulkEvents, BulkUsers, JobErrors, Jobs, OneJob
from delivery.api.messages import Messages, OneMessage
from delivery.api.messenger.urls import MESSENGER
from delivery.api.people import ConvertLead, ConvertVisitor, UserDeleteRequests, Visitor, Visitors
from delivery.api.replies import Reply
from delivery.api.subscriptions import Failures, OneSubscription, Ping, Sent, Subscriptions
from delivery.messenger import script
from delivery.tracking import views

app_name = "delivery"
# Each with and without a trailing slash (wire 5.1).
ENDPOINTS: dict[str, type[Endpoint]] = {
    "api/conversations": Conversations,
    "api/conversations/(?P<pk>[^/]+)": OneConversation,
    "api/conversations/(?P<pk>[^/]+)/reply": Reply,
    "api/messages": Messages,
    "api/messages/(?P<pk>[^/]+)": OneMessage,
    "api/counts": AllCounts,
    "api/contacts/convert": ConvertLead,
    "api/visitors": Visitors,
    "api/visitors/convert": ConvertVisitor,
    "api/visitors/(?P<pk>[^/]+)": Visitor,
    "api/user_delete_requests": UserDeleteRequests,
    "api/bulk/users": BulkUsers,
    "api/bulk/events": BulkEvents,
    "api/jobs": Jobs,
    "api/jobs/(?P<pk>[^/]+)": OneJob,
    "api/jobs/(?P<pk>[^/]+)/error": JobErrors,
    "api/subscriptions": Subscriptions,
    "api/subscriptions/(?P<pk>[^/]+)": OneSubscription,
    "api/subscriptions/(?P<pk>[^/]+)/ping": Ping,
    "api/subscriptions/(?P<pk>[^/]+)/sent": Sent,
    "api/subscriptions/(?P<pk>[^/]+)/error": Failures,
}
urlpatterns: list[URLPattern] = [
    path("m/unsubscribe/<str:token>", views.unsubscribe, name="unsubscribe"),
    path("m/confirm/<str:token>", views.confirm, name="confirm"),
    path("m/o/<str:token>.gif", views.opened, name="opened"),
    re_path(r"^m/c/(?P<token>[^/]+)/(?P<number>[0-9]{1,4})$", views.click, name="click"),
    path("messenger/messenger.js", script.script, name="messenger"),
    # The same script, for pages that call window.Intercom.
    path("messenger/intercom.js", script.script, name="intercom"),
    path("messenger/images/<str:name>", script.image, name="image"),
    path("messenger/files/<str:key>/<str:name>", script.file, name="file"),
    *api_routes(ENDPOINTS, calls=schema.CALLS, schemas={**audiences_schema.SCHEMAS, **schema.SCHEMAS}),
    *(re_path(rf"^{address}/?$", view.as_view()) for address, view in MESSENGER.items()),
]
