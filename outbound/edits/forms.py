"""The forms whose text is autosaved or whose teammates see each other, by name: "message/12", "message/new"."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest

from audiences.models import Customer
from delivery.models import Conversation
from messaging.models import Message
from messaging.models.autosave import FORM_NAME_LENGTH
from outbound import roles

NEW = "new"
# The bare row that erasing a person leaves behind.
ERASED = Q(archived_at__isnull=False, user_id=None, email=None, name="")


def no_customer(_row: Any) -> int | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormKind:
    """One kind of autosaved form: the rows that it edits, the permissions that it needs, and whom its text is for."""

    rows: Callable[[], QuerySet[Any]]
    permissions: tuple[str, ...]
    # The permission to add a row; empty if the form only edits rows.
    permission_to_add: str = ""
    customer_of: Callable[[Any], int | None] = no_customer


MESSAGE, AUDIENCE, DIRECT_MESSAGE, ANSWER = "message", "message-audience", "direct-message", "answer"
KINDS: dict[str, FormKind] = {
    # The composer of a draft, and the content of a message that has been live.
    MESSAGE: FormKind(
        rows=Message.objects.all,
        permissions=("messaging.change_message",),
        permission_to_add="messaging.add_message",
        customer_of=lambda message: message.to_customer_id,
    ),
    AUDIENCE: FormKind(rows=Message.objects.to_audiences, permissions=("messaging.change_message", roles.SET_LIVE)),
    DIRECT_MESSAGE: FormKind(
        rows=lambda: Customer.objects.exclude(ERASED),
        permissions=(roles.WRITE_TO_ONE,),
        customer_of=lambda customer: customer.pk,
    ),
    ANSWER: FormKind(
        rows=lambda: Conversation.objects.exclude(customer__in=Customer.objects.filter(ERASED)),
        permissions=("delivery.change_conversation",),
        customer_of=lambda conversation: conversation.customer_id,
    ),
}


def form_name(kind: str, row: Model | None) -> str:
    return f"{kind}/{NEW if row is None else row.pk}"


@dataclass(frozen=True, slots=True)
class FoundForm:
    """A form that the teammate may use; without an own kind it is only shown who else has it open."""

    name: str
    kind: FormKind | None
    customer_id: int | None = None

    @property
    def is_new(self) -> bool:
        return self.name.endswith(f"/{NEW}")


def find_form(name: str, request: HttpRequest) -> FoundForm:
    """Return the form with this name. Raise Http404 if there is none, PermissionDenied without the permission."""
    word, _, target = name.partition("/")
    if len(name) > FORM_NAME_LENGTH or not name.isprintable():
        raise Http404("This form does not exist.")
    kind = KINDS.get(word)
    if kind and target == NEW:
        if not kind.permission_to_add or not request.user.has_perm(kind.permission_to_add):
            raise PermissionDenied
        return FoundForm(name, kind)
    if kind is None:
        return find_admin_form(name, word, target, request)
    if not (target.isascii() and target.isdecimal() and len(target) < 19):
        raise Http404("This form does not exist.")
    if not request.user.has_perms(kind.permissions):
        raise PermissionDenied
    row = kind.rows().filter(pk=int(target)).first()
    if row is None:
        raise Http404("The row of this form no longer exists.")
    return FoundForm(name, kind, kind.customer_of(row))


def find_admin_form(name: str, word: str, target: str, request: HttpRequest) -> FoundForm:
    """Return the form of a table of the console whose edits are guarded."""
    for model, pages in site._registry.items():  # noqa: SLF001 - Django offers no other list
        if model._meta.model_name == word and getattr(pages, "guards_edits", False):
            row = pages.get_object(request, target)
            if row is None:
                break
            if not pages.has_change_permission(request, row):
                raise PermissionDenied
            return FoundForm(name, None)
    raise Http404("This form does not exist.")
