"""Senders: the names and addresses that messages are sent from."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from messaging.models import Sender
from outbound.console.admin import column
from outbound.edits.admin import ChangeLogAdmin


def staff_users() -> QuerySet[User]:
    return User.objects.filter(is_staff=True).order_by("first_name", "username")


class SenderAdmin(ChangeLogAdmin):
    """The list of senders and their form."""

    list_display = ("name", "address", "replies_to", "owner", "shared_with")
    address = column("email", called="Email")
    replies_to = column("reply_to", called="Replies go to")
    owner = column("teammate", called="Teammate")
    nothing_yet = "A sender is the name and address that a message is sent from. Add one before you write a message."
    search_fields = ("name", "email")
    ordering = ("name",)
    list_select_related = ("teammate",)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer teammates only: the user of an integration cannot own a sender."""
        return super().formfield_for_foreignkey(db_field, request, queryset=staff_users(), **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs |= {"queryset": staff_users(), "widget": UnfoldAdminCheckboxSelectMultipleWidget()}
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sender]:
        return super().get_queryset(request).prefetch_related("users")

    @display(description="Can be used by")
    def shared_with(self, sender: Sender) -> str:
        users = [user.get_username() for user in sender.users.all()]
        if sender.teammate and sender.teammate.get_username() not in users:
            users.insert(0, sender.teammate.get_username())
        return ", ".join(users) if users else "Everyone"
