"""The pages of senders."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from messaging.models import Sender
from outbound.console.admin import column
from outbound.console.change_message import ChangeLogAdmin


def staff() -> QuerySet[User]:
    """Who can write as a sender."""
    return User.objects.filter(is_staff=True).order_by("first_name", "username")


class SenderAdmin(ChangeLogAdmin):
    """Who messages come from."""

    list_display = ("name", "address", "replies_to", "owner", "shared_with")
    address = column("email", called="Email")
    replies_to = column("reply_to", called="Replies go to")
    owner = column("teammate", called="Teammate")
    nothing_yet = "A sender is who a message comes from. Add one before you write the first."
    search_fields = ("name", "email")
    ordering = ("name",)
    list_select_related = ("teammate",)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Whose own it is: a teammate's, not an integration's."""
        return super().formfield_for_foreignkey(db_field, request, queryset=staff(), **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Teammates to tick."""
        kwargs |= {"queryset": staff(), "widget": UnfoldAdminCheckboxSelectMultipleWidget()}
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sender]:
        """Senders, with who may use them."""
        return super().get_queryset(request).prefetch_related("users")

    @display(description="Who may use it")
    def shared_with(self, sender: Sender) -> str:
        """The teammates who may write as this sender."""
        users = [user.get_username() for user in sender.users.all()]
        if sender.teammate and sender.teammate.get_username() not in users:
            users.insert(0, sender.teammate.get_username())
        return ", ".join(users) if users else "Everyone"
