"""The views of the composer: drafts, live counts, previews, tests and launches."""

from datetime import datetime, timedelta

from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from audiences.models import Audience, Company, CustomAttribute, Customer
from audiences.transactions import retried
from delivery.matching import launch_job
from delivery.monitoring import domain_checks
from messaging import authoring, content
from messaging.models import Channel, Message, MessageVersion, Sender, State
from outbound import actions, roles
from outbound.composer import autocomplete, images, options, saving, sheet, tags
from outbound.composer import confirm as confirm_page
from outbound.composer import preview as preview_page
from outbound.composer.audience_fields import RuleFields
from outbound.composer.forms import (
    DraftForm,
    draft_of,
    is_new,
)
from outbound.composer.matching_people import matching_people
from outbound.composer.review import review
from outbound.console import idempotency, lookups
from outbound.console.admin import ConsoleAdmin, teammate
from outbound.console.search import TOO_LONG, is_too_long
from outbound.edits import autosave, conflicts
from outbound.edits.forms import MESSAGE, form_name

# A teammate may have lost the permission after the page was rendered; their text is kept.
MAY_NOT_SEND = (
    "Your role cannot send messages, so nothing was saved or sent. Your text is still here: save it as a draft, and a"
    " teammate with the role Sender or Admin can set it live."
)
SAVED_MEANWHILE = (
    "A teammate has saved a newer version, so nothing was sent. Save the draft to compare the two and take either."
)
MAX_KEY_LENGTH = 19
PREFILLED_FIELDS = {"title", "channel", "format", "send_type"}


def message_url(message: Message) -> str:
    return reverse("admin:messaging_message_change", args=[message.pk])


def compose(admin: ConsoleAdmin, request: HttpRequest, message: Message | None) -> HttpResponse:
    """Show the composer, or save the posted draft."""
    at = timezone.now()
    if request.method == "POST":
        check_posted_sender(request, at=at)
        return save_posted(admin, request, message, at=at)
    draft = message or Message(**{name: value for name, value in request.GET.items() if name in PREFILLED_FIELDS})
    if message is None:
        draft.sender = Sender.objects.default_sender_of(teammate(request))
    initial = draft_of(draft)
    if message is None and "rules" in request.GET:
        initial["rules"] = request.GET["rules"]
    form = DraftForm(initial=initial, user=teammate(request), message=draft)
    return render_composer(admin, request, form, ticket="" if message else idempotency.issue_ticket(request.user))


def check_posted_sender(request: HttpRequest, *, at: datetime) -> None:
    """Check the domain of the sender of a launch, before the transaction that launches it."""
    pk = request.POST.get("sender", "")
    if request.POST.get("act") in actions.AFTER_SAVING and pk.isascii() and pk.isdecimal() and len(pk) < MAX_KEY_LENGTH:
        domain_checks.check_sender(Sender.objects.filter(pk=pk).first(), at=at)


def current_form(message: Message, request: HttpRequest) -> DraftForm:
    """Return the unbound form of the draft as it is stored."""
    return DraftForm(initial=draft_of(message), user=teammate(request), message=message)


def save_posted(admin: ConsoleAdmin, request: HttpRequest, message: Message | None, *, at: datetime) -> HttpResponse:
    """Save the draft; launch or schedule it if that button was pressed. A refused launch saves nothing."""
    ticket = request.POST.get("ticket", "")
    key = message.pk if message else idempotency.redeem_ticket(ticket, request.user)
    try:
        return save_and_act(admin, request, message, key, at=at)
    except ValidationError as no:
        there = Message.objects.filter(pk=key).first()
        form = DraftForm(request.POST, user=teammate(request), message=there or Message(pk=key))
        form.add_error(None, ValidationError(no.messages))
        return render_refused(admin, request, form, ticket="" if message else ticket, at=at)


@retried
def save_and_act(
    admin: ConsoleAdmin, request: HttpRequest, message: Message | None, key: int, *, at: datetime
) -> HttpResponse:
    """Save the draft and perform the act of the pressed button in one transaction."""
    ticket = "" if message else request.POST.get("ticket", "")
    idempotency.lock_key(key)
    there = Message.objects.select_for_update(of=("self",)).filter(pk=key).first()
    if there and not admin.has_change_permission(request, there):
        raise PermissionDenied
    if message and there is None:
        raise Http404("This draft was deleted.")
    if there and not is_open_draft(request, there):
        return sheet.answer_launch(request, message_url(there))
    conflict = None
    if there:
        request.POST, conflict = conflicts.resolve(request.POST, current=current_form(there, request))
        if conflict and not sheet.is_from_sheet(request):
            return conflicts.conflict_page(admin, request, conflict, row=there, is_autosaved=True)
    form = DraftForm(request.POST, user=teammate(request), message=there or Message(pk=key))
    pressed = actions.AFTER_SAVING.get(request.POST.get("act", ""))
    if conflict:
        # The sheet has no place for a comparison.
        form.add_error(conflict.fields[0].name, SAVED_MEANWHILE)
        return render_refused(admin, request, form, ticket=ticket, at=at)
    if pressed and not request.user.has_perm(pressed.permission):
        form.add_error(None, MAY_NOT_SEND)
        return render_refused(admin, request, form, ticket=ticket, at=at, status=403)
    plan = launch_plan(form, request, at=at) if pressed and form.is_valid() else actions.UNCOUNTED
    if not form.is_valid():
        return render_refused(admin, request, form, ticket=ticket, at=at)
    draft = saving.save_draft(form, by=teammate(request), logged_as=teammate(request), at=at)
    autosave.close_form(request, form_name(MESSAGE, message), at=at)
    done = f"“{draft}” is saved as a draft."
    if pressed:
        asked = {name: form.cleaned_data[name] for name in ("sample", "scheduled_for")}
        done = actions.do_and_log(teammate(request), draft, pressed, at=at, plan=plan, **asked)
    messages.success(request, done)
    return sheet.answer_launch(request, message_url(draft))


def is_open_draft(request: HttpRequest, message: Message) -> bool:
    """Whether the composer may change the message; otherwise note the reason for the next page."""
    if message.state == State.DRAFT and not message.to_customer_id:
        return message.launching_at is None
    messages.info(request, f"“{message}” is {message.get_state_display().lower()} already. Nothing was changed.")
    return False


def render_refused(
    admin: ConsoleAdmin, request: HttpRequest, form: DraftForm, *, ticket: str, at: datetime, status: int = 200
) -> HttpResponse:
    """Show the reasons in the sheet, or in the composer if the form was posted without it."""
    if not sheet.is_from_sheet(request):
        return render_composer(admin, request, form, ticket=ticket, status=status)
    refused = [str(sentence) for sentence in form.errors.pop(NON_FIELD_ERRORS, [])]
    shown = sheet.posted_sheet(request, form, form.preview(), at=at, refusal=" ".join(refused))
    return render(request, sheet.SHEET, {"sheet": shown})


def final_sheet(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Render the final sheet for the posted composer and the pressed button, without saving it."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    form, draft = posted_draft(admin, request)
    if not request.user.has_perm(roles.SET_LIVE):
        raise PermissionDenied
    if request.POST.get("act") not in actions.AFTER_SAVING:
        raise Http404("This button has no sheet.")
    check_posted_sender(request, at=timezone.now())
    return render(request, sheet.SHEET, {"sheet": sheet.posted_sheet(request, form, draft, at=timezone.now())})


def launch_plan(form: DraftForm, request: HttpRequest, *, at: datetime) -> actions.LaunchPlan:
    """Return the plan of the launch that was asked for; add an error to the form if it is refused."""
    form.require_valid_content()
    draft = form.preview()
    sample = form.cleaned_data["sample"] if request.POST["act"] == "sample" else None
    asked = confirm_page.PostedCounts.from_post(request.POST, sample=sample)
    found = None if authoring.launch_problems(draft, at=at) else confirm_page.count_recipients(draft, asked, at=at)
    if found is None:
        return actions.UNCOUNTED
    if refusal := confirm_page.refusal_reason(draft, found, asked):
        form.add_error(None, refusal)
    return confirm_page.launch_plan(found, asked)


def render_composer(
    admin: ConsoleAdmin, request: HttpRequest, form: DraftForm, *, ticket: str, status: int = 200
) -> HttpResponse:
    message = form.message
    new = is_new(message)
    # A new message that was opened with rules restores only text that was typed for them.
    prefilled = request.POST.get("prefilled", "") or request.GET.get("rules", "")
    name = form_name(MESSAGE, None if new else message)
    opened = autosave.open_form(
        request, name, at=timezone.now(), **({"prefilled": prefilled} if new and prefilled else {})
    )
    version = "" if new else opened.seen or conflicts.version_of(current_form(message, request))
    opened.fill(form)
    return admin.page(
        request,
        "outbound/composer/composer.html",
        status=status,
        title="New message" if new else message.title,
        crumb="New message" if new else "",
        form=form,
        open_form=opened,
        prefilled=next(iter(opened.fields.get("prefilled", [prefilled])), ""),
        seen=version,
        problems={} if form.errors else draft_problems(form),
        original=None if new else message,
        ticket=ticket,
        variables=options.variables(CustomAttribute.objects.offered().catalogue()),
        offer=options.rule_builder(form["rules"].value()),
        times=options.window_times(),
        place=form.place if form.is_bound else "",
        can_discard=not new,
        can_tag=not new,
        all_tags=[] if new else tags.offered_names(),
        can_set_live=request.user.has_perm(roles.SET_LIVE),
        can_preview=request.user.has_perm("audiences.view_customer"),
        can_keep_segments=request.user.has_perm("audiences.add_audience"),
    )


def draft_problems(form: DraftForm) -> dict[str, list[str]]:
    """Return the problems of a saved draft's text by field, which going live refuses."""
    shown = DraftForm(form.initial, user=form.user, message=form.message)
    shown.is_valid()
    return shown.problems


def forecast(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Render the summary and the review of the posted form without saving it."""
    form, draft = posted_draft(admin, request)
    wrong = [str(sentence) for name, found in form.errors.items() if name in REVIEWED_FIELDS for sentence in found]
    at = timezone.now()
    problems = [*wrong, *(authoring.launch_problems(draft, at=at) if not wrong else [])]
    within = None if "exact" in request.GET else COUNT_WITHIN
    found = review(draft, at=at, problems=list(dict.fromkeys(problems)), within=within)
    known = found.people and draft.audience
    matching = matching_people(request, draft.audience.tree, at=at, within=within) if known and draft.audience else []
    return render(request, "outbound/composer/review.html", {"review": found, "draft": draft, "matching": matching})


def posted_draft(admin: ConsoleAdmin, request: HttpRequest) -> tuple[DraftForm, Message]:
    """Return the posted form and its message as an unsaved instance."""
    if not (admin.has_add_permission(request) or admin.has_change_permission(request)):
        raise PermissionDenied
    form = DraftForm(request.POST or None, user=teammate(request), message=Message())
    if form.is_bound:
        form.is_valid()
        form.require_valid_content()
    return form, form.preview() if form.is_bound else Message(audience=Audience())


def preview(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Render the posted form as a customer would read it."""
    form, draft = posted_draft(admin, request)
    wrong = [str(sentence) for name in CONTENT_FIELDS for sentence in form.errors.get(name, [])]
    customer = chosen_customer(request)
    company = confirm_page.parse_number(request.POST.get("as_company", ""))
    if draft.version is None:
        draft.version = MessageVersion()
    found = preview_page.preview(draft, customer=customer, company=company, at=timezone.now())
    found.wrong = found.wrong or " ".join(wrong)
    return render(request, "outbound/composer/preview.html", {"preview": found, "draft": draft})


def chosen_customer(request: HttpRequest) -> Customer | None:
    """Return the customer to preview as: the chosen or the newest one, None if the teammate may not view customers."""
    if not request.user.has_perm("audiences.view_customer"):
        return None
    there = Customer.objects.filter(archived_at=None)
    wanted = confirm_page.parse_number(request.POST.get("as_customer", ""))
    return (there.filter(pk=wanted).first() if wanted else None) or there.order_by("-pk").first()


def send_test(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Send the posted form as an email to its author, without a record."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    form, draft = posted_draft(admin, request)
    wrong = [str(sentence) for name in CONTENT_FIELDS for sentence in form.errors.get(name, [])]
    me, sender = teammate(request), draft.sender
    lacking = [
        *wrong,
        *(
            ["Only emails can be sent as a test. Use the preview for other channels."]
            * (draft.channel != Channel.EMAIL)
        ),
        *([authoring.NO_SENDER] * (sender is None)),
        *(["Your account has no email address. Ask an admin to add it."] * (not me.email)),
    ]
    if lacking or sender is None:
        return JsonResponse({"wrong": lacking[0]}, status=400)
    customer = chosen_customer(request)
    company = None
    if customer and (wanted := confirm_page.parse_number(request.POST.get("as_company", ""))):
        company = Company.objects.filter(memberships__customer=customer, pk=wanted).first()
    try:
        preview_page.send_test(draft, sender=sender, to=me, customer=customer, company=company)
    except (content.ContentError, preview_page.Rejected, preview_page.Unavailable, OSError) as no:
        return JsonResponse({"wrong": f"The test was not sent: {no}"}, status=400)
    return JsonResponse({"said": f"The test is on its way to {me.email}."})


def find_people(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Find customers to preview as."""
    if not request.user.has_perm("audiences.view_customer"):
        raise PermissionDenied
    if is_too_long(request.GET.get("q", "")):
        return JsonResponse({"wrong": TOO_LONG}, status=400)
    rows = preview_page.find_customers(request.GET.get("q", ""))
    return JsonResponse({"people": [{"id": one.pk, "name": str(one), "email": one.email or ""} for one in rows]})


def known_values(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Return values that complete the value of a rule, or with `is` the value that its author may have meant."""
    if not request.user.has_perm("audiences.view_customer"):
        raise PermissionDenied
    if is_too_long(request.GET.get("is", request.GET.get("q", ""))):
        return JsonResponse({"wrong": TOO_LONG}, status=400)
    if "is" in request.GET:
        meant = autocomplete.meant_value(request.GET.get("attribute", ""), value=request.GET["is"])
        return JsonResponse({"meant": meant})
    found = autocomplete.known_values(request.GET.get("attribute", ""), words=request.GET.get("q", ""))
    return JsonResponse({"values": found})


def find_names(request: HttpRequest) -> HttpResponse:
    """Find tags, segments or messages for a rule."""
    asked = request.GET.get("kind", "")
    kind = next((kind for kind in lookups.NAMED_KINDS if kind == asked), None)
    needed = [lookups.VIEW_PERMISSIONS[kind]] if kind else lookups.VIEW_PERMISSIONS.values()
    if not any(request.user.has_perm(permission) for permission in needed):
        raise PermissionDenied
    if kind is None:
        raise Http404(f"There are no names of the kind “{asked}”.")
    if is_too_long(request.GET.get("q", "")):
        return JsonResponse({"wrong": TOO_LONG}, status=400)
    return JsonResponse({"names": lookups.find_names(kind, words=request.GET.get("q", "").strip())})


def upload_image(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Store an image for a message."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not (admin.has_add_permission(request) or admin.has_change_permission(request)):
        raise PermissionDenied
    try:
        return JsonResponse({"url": images.store_image(request.FILES.get("file"))})
    except ValidationError as no:
        return JsonResponse({"wrong": " ".join(no.messages)}, status=400)


def save_segment(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Save the posted rules as a segment."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not request.user.has_perm("audiences.add_audience"):
        raise PermissionDenied
    fields = RuleFields(request.POST)
    fields.is_valid()
    if "rules" in fields.errors:
        return JsonResponse({"wrong": str(fields.errors["rules"][0])}, status=400)
    try:
        name = request.POST.get("name", "").strip()
        segment = create_segment(admin, request, name=name, rules=fields.cleaned_data.get("rules", {}))
    except ValidationError as no:
        return JsonResponse({"wrong": no.messages[0]}, status=400)
    return JsonResponse({"id": segment.pk, "name": segment.name, "rules": segment.rules})


def create_segment(admin: ConsoleAdmin, request: HttpRequest, *, name: str, rules: object) -> Audience:
    """Create a segment, with an entry in the log. Raises ValidationError."""
    if not name:
        raise ValidationError("Give the segment a name.")
    segment = Audience(name=name, rules=rules)
    segment.full_clean()
    with transaction.atomic():
        segment.save()
        admin.log_addition(request, segment, "Created the segment")
    return segment


def launch_progress(request: HttpRequest, message: Message) -> HttpResponse:
    """Render the progress of a launch; once it is done, reload the page."""
    context = {"original": message, "at": timezone.now(), "progress": launch_job.launch_progress(message)}
    answer = render(request, "outbound/composer/launching.html", context)
    if message.launching_at is None:
        answer["HX-Redirect"] = message_url(message)
    return answer


# Leaves half of a second for the estimate and the page.
COUNT_WITHIN = timedelta(milliseconds=500)
CONTENT_FIELDS = ("subject", "body", "text", "link")
REVIEWED_FIELDS = ("subject", "body", "text", "link", "rules", "window", "shown_until", "topic")
