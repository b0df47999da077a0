"""Roles: their permissions in words, and which of them need a second factor."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from outbound.console.admin import ReadOnlyAdmin
from outbound.console.change_message import change_text
from outbound.models import GRACE_DAYS_MAX, SecondFactorRule
from outbound.roles import DESCRIPTIONS, Role
from outbound.signin import second_factor

MANAGE_STAFF = "auth.change_user"


class SecondFactorForm(forms.Form):
    """The roles that need a second factor, and the days of grace."""

    roles = forms.MultipleChoiceField(
        label="Teammates with these roles need a second factor",
        choices=Role.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    grace_days = forms.IntegerField(
        label="Days to set one up",
        min_value=0,
        max_value=GRACE_DAYS_MAX,
        initial=7,
        widget=UnfoldAdminTextInputWidget({"inputmode": "numeric"}),
        help_text="From today, or from the invitation of a new teammate. After these days, the console asks for a"
        " second factor before it shows anything else.",
    )

    def save(self, *, at: datetime) -> list[tuple[Role, str, str]]:
        """Save the rules; return each changed role with its old and new rule. A role keeps its first day."""
        rules = {row.role: row for row in SecondFactorRule.objects.select_for_update()}
        grace, changed = self.cleaned_data["grace_days"], []
        for role in Role:
            row, before = rules.get(role.value), rule_text(rules.get(role.value))
            if role.value not in self.cleaned_data["roles"]:
                if row is not None:
                    row.delete()
                row = None
            elif row is None:
                row = SecondFactorRule.objects.create(role=role.value, required_since=at, grace_days=grace)
            else:
                row.grace_days = grace
                row.save(update_fields=["grace_days"])
            if before != (after := rule_text(row)):
                changed.append((role, before, after))
        return changed


def rule_text(row: SecondFactorRule | None) -> str:
    """Return a role's rule in words."""
    if row is None:
        return "Not required"
    days = "day" if row.grace_days == 1 else "days"
    return f"Required since {timezone.localtime(row.required_since):%-d %b %Y}, after {row.grace_days} {days}"


class RoleAdmin(ReadOnlyAdmin):
    """The roles: their permissions in words, the number of teammates, and whether they need a second factor."""

    list_display = ("name", "permissions_text", "members", "second_factor_text")
    change_list_template = "outbound/workspace/roles.html"
    own_pages = (("second-factor/", "second_factor"),)
    list_display_links = None
    actions = None
    ordering = ("pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(name__in=Role.values)

    @display(description="Permissions")
    def permissions_text(self, group: Group) -> str:
        return DESCRIPTIONS[Role(group.name)]

    @display(description="Teammates")
    def members(self, group: Group) -> int:
        """Count active teammates; a superuser has all rights of an Admin."""
        may = Q(groups=group) | Q(is_superuser=True) if group.name == Role.ADMIN else Q(groups=group)
        return User.objects.filter(may, is_active=True).distinct().count()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Redirect to the list: roles have no pages of their own."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        self.get_object_or_refuse(request, object_id, to="view")
        return HttpResponseRedirect(reverse("admin:auth_group_changelist"))

    @display(description="Second factor")
    def second_factor_text(self, group: Group) -> str:
        rule = second_factor.load_rules().get(group.name)
        return "Required" if rule else "Not required"

    def second_factor(self, request: HttpRequest) -> HttpResponse:
        """Choose the roles that need a second factor."""
        if not request.user.has_perm(MANAGE_STAFF):
            raise PermissionDenied
        rules = list(SecondFactorRule.objects.all())
        initial = {
            "roles": [row.role for row in rules],
            "grace_days": max((row.grace_days for row in rules), default=7),
        }
        form = SecondFactorForm(request.POST if request.method == "POST" else None, initial=initial)
        if not form.is_valid():
            status = 400 if form.is_bound else 200
            title = "Second factor"
            return self.page(request, "outbound/workspace/second_factor.html", title=title, status=status, form=form)
        with transaction.atomic():
            for role, before, after in form.save(at=timezone.now()):
                group = Group.objects.get(name=role.value)
                self.note(request, group, change_text("Second factor", before, after))
        second_factor.forget_rules()
        messages.success(request, "The rules for the second factor are saved.")
        return HttpResponseRedirect(reverse("admin:auth_group_changelist"))
