"""The lists of customers (“People”) and companies, and the page of a company."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from audiences import compiler
from audiences.customer_counts import estimate_customer_count
from audiences.models import Audience, Company, Customer, Membership, Workspace
from audiences.models.consent import has_not_confirmed
from audiences.rules import RuleError
from outbound import roles
from outbound.composer import options
from outbound.composer.audience_fields import RuleFields
from outbound.console import admin
from outbound.console.admin import ConsoleAdmin, column
from outbound.console.formatting import chip
from outbound.console.lists import ConsoleChangeList
from outbound.console.wording import counted
from outbound.messages import recipients
from outbound.people import beside, bulk_actions, opt_in, profile, topics, why
from outbound.people.csv_import import pages as import_pages

SEGMENTS_OFFERED_MAX = 500
EMAIL_OBSTACLES: tuple[tuple[str, str, str], ...] = (
    ("archived_at", "Archived", "plain"),
    ("has_hard_bounced", "Bounced", "bad"),
    ("marked_email_as_spam", "Marked spam", "bad"),
    ("unsubscribed_from_emails", "Unsubscribed", "warning"),
)


def count_related(model: Any, by: str) -> Any:
    """Return a subquery that counts the rows of `model` per object; `by` is the foreign key to the object."""
    rows = model.objects.filter(**{by: OuterRef("pk")}).order_by().values(by).annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(rows), 0)


class InSegment(DropdownFilter):
    """Filter customers by a segment. The compiler evaluates the segment's rules now, as for an audience."""

    title = "segment"
    parameter_name = "segment"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        segments = Audience.objects.segments().order_by("name").values_list("pk", "name")[:SEGMENTS_OFFERED_MAX]
        return [(str(pk), name) for pk, name in segments]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value() or ""
        if not value:
            return queryset
        segment = Audience.objects.segments().filter(pk=value).first() if value.isdecimal() else None
        if segment is None:
            return queryset.none()
        try:
            return queryset.filter(pk__in=compiler.matching_customers(segment.rules, at=timezone.now()).values("pk"))
        except RuleError:
            return queryset.none()


class PeopleList(ConsoleChangeList):
    """The change list of people: Django's filters, and the rules in the address."""

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        return {name: value for name, value in super().get_filters_params(params).items() if name != bulk_actions.RULES}

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Return the filtered rows; none if the rules in the address are invalid."""
        rows = super().get_queryset(request, exclude_parameters)
        if not request.GET.get(bulk_actions.RULES):
            return rows
        try:
            tree = Audience(rules=bulk_actions.stored_rules(request.GET)).tree
            return (
                rows.filter(pk__in=compiler.customers_matching_tree(tree, at=timezone.now()).values("pk"))
                if tree.rules
                else rows
            )
        except RuleError:
            return rows.none()


def estimated(request: HttpRequest, shown: int) -> str:
    """Describe the size of the list. Long lists are not counted: PostgreSQL's estimate is used instead."""
    if shown < admin.COUNT_LIMIT:
        return counted(shown, "person", "people")
    if request.GET.keys() - {"p", "o"}:
        return f"More than {admin.COUNT_LIMIT:,} people"
    about = estimate_customer_count()
    return (
        f"About {round(about, -3):,} people" if about > admin.COUNT_LIMIT else f"More than {admin.COUNT_LIMIT:,} people"
    )


class CustomerAdmin(
    bulk_actions.PickingPages,
    import_pages.ImportPages,
    why.WhyPages,
    beside.BesidePages,
    topics.TopicPages,
    opt_in.OptInPages,
    profile.ProfilePages,
):
    """People: the list, search and filters. Each customer opens as a profile."""

    own_pages = (
        *(*import_pages.PAGES, *bulk_actions.PAGES, *why.PAGES, *beside.PAGES, *topics.PAGES, *opt_in.PAGES),
        *profile.PAGES,
    )
    actions = (*bulk_actions.PickingPages.actions, *opt_in.OptInPages.actions)
    paginator = admin.CappedPaginator
    change_list_template = "outbound/people/list.html"
    list_before_template = "outbound/people/filters.html"
    list_disable_select_all = True

    list_display = ("name_and_email", "goes_by", "role_name", "company_count", "signed_up", "last_seen", "gets_email")
    goes_by = column("user_id", called="User ID")
    signed_up = column("signed_up_at", called="Signed up")
    last_seen = column("last_seen_at", called="Last seen")
    nothing_yet = "People come from your API, from visits to your site and from imported files."
    list_filter = (("role", ChoicesDropdownFilter), ("tags", AutocompleteSelectFilter), InSegment)
    search_fields = ("name", "email", "user_id")
    search_help_text = "Search by name, email or user ID"
    ordering = (F("last_seen_at").desc(nulls_last=True), "-pk")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ConsoleChangeList]:
        return PeopleList

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        needs = {"tag_ticked": "audiences.change_customer", "export_ticked": "audiences.change_customer"}
        needs["message_ticked"] = "messaging.add_message"
        if Workspace.current().double_opt_in:
            needs["ask_ticked"] = "audiences.change_customer"
        return {
            name: action
            for name, action in super().get_actions(request).items()
            if name in needs and request.user.has_perm(needs[name])
        }

    def get_list_display(self, request: HttpRequest) -> Any:
        return (*self.list_display, *(("write",) if request.user.has_perm(roles.WRITE_TO_ONE) else ()))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Customer]:
        rows = super().get_queryset(request).annotate(companies_count=count_related(Membership, "customer"))
        return rows.annotate(double_opt_in=Exists(Workspace.objects.filter(double_opt_in=True)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Customer], search_term: str
    ) -> tuple[QuerySet[Customer], bool]:
        """Search for an exact email address by index if the term is one; otherwise for words."""
        if bulk_actions.is_address(search_term) and (pks := recipients.customer_ids_matching(search_term.strip())):
            return queryset.filter(pk__in=pks), False
        return super().get_search_results(request, queryset, search_term)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        rules = request.GET.get(bulk_actions.RULES, "")
        form = RuleFields({"rules": rules}) if rules else RuleFields()
        form.is_valid()
        answer = super().changelist_view(
            request,
            {
                **(extra_context or {}),
                "title": "People",
                "form": form,
                "offer": options.rule_builder(rules),
                "place": form.place,
                "filtered": {
                    name: value for name, value in request.GET.items() if name not in ("p", bulk_actions.RULES)
                },
                "query": request.GET.urlencode(),
                "ruled": bool(rules) and rules != "{}",
                "can_import": request.user.has_perm(import_pages.PERMISSION),
                "can_change": request.user.has_perm("audiences.change_customer"),
                "can_add_segments": request.user.has_perm("audiences.add_audience"),
                "can_write": request.user.has_perm("messaging.add_message"),
            },
        )
        if isinstance(answer, TemplateResponse) and answer.context_data and "cl" in answer.context_data:
            answer.context_data["people"] = estimated(request, answer.context_data["cl"].result_count)
        return answer

    @display(description="Name", ordering="name")
    def name_and_email(self, customer: Customer) -> SafeString | str:
        if not customer.name or not customer.email:
            return str(customer)
        return format_html('{}<span class="ob-under">{}</span>', customer.name, customer.email)

    @display(description="Role", ordering="role")
    def role_name(self, customer: Customer) -> str:
        return customer.get_role_display()

    @display(description="Companies")
    def company_count(self, customer: Customer) -> str:
        count = customer.companies_count  # type: ignore[attr-defined]
        return f"{count}" if count else "–"

    @display(description="Receives email")
    def gets_email(self, customer: Customer) -> SafeString | str:
        """Show whether the customer receives email or, if not, the reason."""
        for name, label, tone in EMAIL_OBSTACLES:
            if getattr(customer, name):
                return chip(label, tone)
        if customer.email and customer.double_opt_in and has_not_confirmed(customer):  # type: ignore[attr-defined]
            return chip("Not confirmed", "warning")
        return "Yes" if customer.email else chip("No address", "plain")

    @display(description="Write")
    def write(self, customer: Customer) -> SafeString:
        """Return the link that opens “Send a message” as a sheet."""
        return format_html(
            '<a class="ob-button ob-small" data-message-sheet href="{}" aria-label="Send a message to {}">'
            '<span class="material-symbols-outlined" aria-hidden="true">chat</span></a>',
            *(reverse("admin:customer_send_message", args=[customer.pk]), customer),
        )


class CompanyAdmin(ConsoleAdmin):
    """Companies: a read-only list, and a page with their members."""

    list_display = ("name_or_id", "goes_by", "pays", "members", "spends", "last_seen")
    goes_by = column("company_id", called="Company ID")
    pays = column("plan", called="Plan")
    spends = column("monthly_spend", called="Monthly spend")
    last_seen = column("last_seen_at", called="Last seen")
    nothing_yet = "Companies come from your API, from visits to your site and from imported files."
    list_filter = (("tags", AutocompleteSelectFilter),)
    search_fields = ("name", "company_id")
    search_help_text = "Search by name or company ID"
    ordering = ("name", "pk")
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Company]:
        return super().get_queryset(request).annotate(members_count=count_related(Membership, "company"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Companies come from the API, from visits and from imports."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Company | None = None) -> bool:
        """A company that has delivery records is archived, not deleted."""
        return False

    @display(description="Name", ordering="name")
    def name_or_id(self, company: Company) -> str:
        return str(company)

    @display(description="Members", ordering="members_count")
    def members(self, company: Company) -> int:
        return company.members_count  # type: ignore[attr-defined]

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        company = self.get_object_or_refuse(request, object_id, to="view")
        members = Customer.objects.filter(memberships__company=company).order_by("name", "pk")
        return self.page(
            request,
            "outbound/people/company.html",
            title=str(company),
            original=company,
            facts=profile.company_facts(company),
            attributes=profile.custom_attributes(company.attributes, scope="company"),
            tags=company.tags.order_by("name"),
            members=members[:100],
            members_count=company.memberships.count(),
        )
