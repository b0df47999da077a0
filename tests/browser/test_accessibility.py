"""Accessibility of every page of the console: axe finds no serious problem on desktop or phone, in light or dark mode.

Each page is opened once and checked in each size. All rules of axe that can find a serious problem run in both sizes;
dark mode, which changes only colours, is checked by the rules about colour.
"""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.http import int_to_base36
from django_celery_beat.models import PeriodicTask
from playwright.sync_api import Page

from audiences import intake
from audiences.models import (
    ConfirmationMail,
    Customer,
    Import,
    ImportState,
    Integration,
    Notification,
    Subscription,
    Tag,
    Workspace,
)
from delivery import rendering, schedule
from delivery.conversations import threads
from delivery.matching import direct, launch, lifecycle
from delivery.models import Alarm, AlarmKind, DeliveryRecord, Pace, Reason, Status
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, Sender, SendingDomain
from messaging.models.sending_domain import Verdict
from outbound import roles
from outbound.signin import invitations
from tests.browser.conftest import AXE
from tests.factories import (
    CompanyTagFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    SenderFactory,
    TopicFactory,
    TopicOptOutFactory,
    rule,
)
from tests.support.imports import stored_import
from tests.support.records import mark_records_sent

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
LISTS = (
    *("delivery_conversation", "messaging_message", "delivery_deliveryrecord"),
    *("audiences_customer", "audiences_company", "audiences_audience"),
    *(
        "audiences_tag",
        "audiences_messagetopic",
        "audiences_customattribute",
        "messaging_sender",
        "auth_user",
        "auth_group",
        "admin_logentry",
    ),
    *("audiences_integration", "audiences_suppression", "delivery_pace", "django_celery_beat_periodictask"),
    *(f"django_celery_beat_{times}schedule" for times in ("interval", "crontab", "solar", "clocked")),
)
FORMS = (
    *("delivery_pace", "messaging_message", "messaging_sender", "audiences_audience", "audiences_tag", "auth_user"),
    *("audiences_suppression", "audiences_messagetopic"),
    *("django_celery_beat_periodictask", "django_celery_beat_intervalschedule", "django_celery_beat_crontabschedule"),
)
# One finding of each verdict, with a long record to publish.
FINDINGS = [
    {"check": check, "verdict": verdict, "text": "The key at s1._domainkey.acme-mail.dev.", "publish": publish}
    for check, verdict, publish in zip(
        ("SPF", "DKIM", "DMARC", "MX", "TLS"),
        Verdict,
        ([], [], [("s1._domainkey.acme-mail.dev", "TXT", "v=DKIM1; k=rsa; p=" + "A" * 300)], [], []),
        strict=True,
    )
]
# Rules that depend on the colour scheme.
COLOURS = "{runOnly: ['color-contrast', 'link-in-text-block']}"
# All others that can find a serious problem. Each of axe's rules and checks has a fixed impact.
SERIOUS = """{rules: Object.fromEntries(axe._audit.rules.filter((rule) =>
    ![rule, ...[...rule.any, ...rule.all, ...rule.none].map((check) => axe._audit.data.checks[check.id || check])]
        .some((one) => !['minor', 'moderate'].includes(one?.impact))
    ).map((rule) => [rule.id, {enabled: false}]))}"""
# Everything has loaded and run; this is faster than waiting for an idle network.
SETTLED = """() => document.readyState === 'complete' && !document.querySelector('.htmx-request')
    && (!document.querySelector('[x-data]') || !!document.querySelector('[x-data]')._x_dataStack)"""
CHOOSE = """async (scheme) => {
    const all = document.documentElement;
    if (!all._x_dataStack) return;
    Alpine.$data(all).adminTheme = scheme;
    while (all.classList.contains('dark') !== (scheme === 'dark')) await new Promise(requestAnimationFrame);
}"""
# axe reads the style sheets for its rule about orientation. Pages with the same ones are alike in this.
STYLES = """() => JSON.stringify([...document.styleSheets].map((sheet) => sheet.href || sheet.ownerNode.textContent))"""
READ_STYLES: set[str] = set()


@pytest.fixture
def addresses(transactional_db, settings, tmp_path) -> list[str]:
    """One page of each kind, with data."""
    settings.MEDIA_ROOT = tmp_path
    schedule.install()
    roles.install()
    customer = MembershipFactory(
        customer__name="Ada Byron", customer__email="ada@acme.example", company__name="Acme"
    ).customer
    CustomerTagFactory(customer=customer, tag__name="VIP")
    CompanyTagFactory(company=customer.memberships.get().company, tag__name="Partner")
    EventSummaryFactory(customer=customer)
    EventFactory(customer=customer)
    for name in ("Bob", "Cyd", "Dee"):
        CustomerFactory(name=name, email=f"{name.lower()}@acme.example")
    thread = threads.open_by_customer(customer, body="Where is my invoice?", at=timezone.now())
    vip = Tag.objects.get(name="VIP")
    seats = CustomAttributeFactory(name="seats", kind="text", scope="customer")
    segment = SegmentFactory(rules={"match": "all", "rules": [rule("name", "is", "Ada")]})
    boss = User.objects.create_superuser("boss", "boss@acme.example", "pass", first_name="Bo")
    Integration.objects.create(user=boss, name="Shop")
    for kind in AlarmKind:  # Alarms are shown above every page.
        Alarm.objects.create(kind=kind, description="It does not go on. " * 3, began_at=NOW, seen_at=NOW)
    Workspace.objects.update(allowed_origins=["https://www.acme.example"])
    hook = Subscription.objects.create(
        url="https://acme.example/" + "hooks/" * 20, topics=["user.created"], created_at=NOW, updated_at=NOW
    )
    Notification.objects.create(
        subscription=hook, topic="user.created", created_at=NOW, due_at=NOW, attempts=1, detail="It answered 500."
    )
    invited = User.objects.create_user("new@acme.example", "new@acme.example", is_staff=True)
    written = messages()
    SenderFactory(email="ada@acme-mail.dev")
    SendingDomain.objects.create(name="acme-mail.dev", checked_at=NOW, findings=FINDINGS)
    chosen, checked, done = (an_import(boss, upto) for upto in (None, ImportState.CHECKED, ImportState.DONE))
    to_one = direct.send_to_one(
        customer, channel="in_app", format="chat", sender=written["news"].sender, subject="", body="<p>Hi</p>",
        by=boss, at=NOW,
    )  # fmt: skip
    TopicOptOutFactory(customer=customer)
    change = "admin:messaging_message_change"
    return [
        reverse("admin:index"),
        *(reverse(f"admin:{name}_changelist") for name in LISTS),
        *(reverse(f"admin:{name}_add") for name in FORMS),
        *(reverse(change, args=[message.pk]) for message in written.values()),
        reverse(change, args=[to_one.message_id]),
        reverse("admin:messaging_message_changelist") + "?to=one_person",
        reverse("admin:messaging_message_changelist") + "?send_type__exact=ongoing&state__exact=stopped",
        reverse("admin:message_edit_content", args=[written["welcome"].pk]),
        reverse("admin:message_edit_audience", args=[written["paused"].pk]),
        reverse("admin:messaging_message_history", args=[written["news"].pk]),
        reverse("admin:deliveryrecord_uncertain"),
        reverse("admin:delivery_deliveryrecord_change", args=[written["news"].records.first().pk]),
        reverse("admin:delivery_conversation_change", args=[thread.pk]),
        reverse("admin:audiences_customer_changelist") + f"?segment={segment.pk}&q=ada",
        reverse("admin:customer_import_file"),
        *(reverse("admin:customer_import_page", args=[job.pk]) for job in (chosen, checked, done)),
        reverse("admin:customer_import_lines", args=[done.pk]),
        reverse("admin:audiences_customer_change", args=[customer.pk]),
        reverse("admin:customer_send_message", args=[customer.pk]),
        reverse("admin:customer_send_message", args=[customer.pk]) + "?sheet=1",
        reverse("admin:customer_why", args=[customer.pk]),
        reverse("admin:customer_why", args=[customer.pk]) + f"?message={written['paused'].pk}",
        reverse("admin:audiences_company_change", args=[customer.memberships.get().company_id]),
        reverse("admin:audiences_audience_change", args=[segment.pk]),
        reverse("admin:audiences_customattribute_change", args=[seats.pk]) + "?kind=number",
        *(reverse(f"admin:audiences_tag_{page}", args=[vip.pk]) for page in ("change", "delete", "history")),
        reverse("admin:audiences_integration_change", args=[Integration.objects.get().pk]),
        reverse("admin:django_celery_beat_periodictask_change", args=[PeriodicTask.objects.first().pk]),
        reverse("admin:audiences_tag_changelist") + "?q=none+like+that",
        reverse("admin:audiences_workspace_change", args=[Workspace.current().pk]),
        reverse("admin:delivery_pace_change", args=[Pace.objects.create(channel="email").pk]),
        reverse("admin:messaging_sender_change", args=[Sender.objects.first().pk]),
        reverse("admin:sender_domains"),
        reverse("admin:audiences_subscription_add"),
        reverse("admin:audiences_subscription_change", args=[hook.pk]),
        reverse("admin:auth_user_change", args=[invited.pk]),
        reverse("admin:auth_group_change", args=[Group.objects.get(name="Author").pk]),
        reverse("admin:group_second_factor"),
        reverse("admin:audiences_messagetopic_change", args=[written["news"].topic_id]),
        reverse("mfa_index"),
        reverse("admin:password_change"),
        reverse("admin:password_change_done"),
    ]


def messages() -> dict[str, Message]:
    """A message in each state and channel, and one with a record of each status."""
    asks = {"match": "all", "rules": [rule("name", "is", "A")]}
    live = {"live": True, "one_off": True}
    news = MessageFactory(
        title="News",
        body='<p>See <a href="https://acme.example/new">it</a></p>',
        topic=TopicFactory(name="Product news", description="What is new, once a month."),
        **live,
    )
    settle(news)
    scheduled = MessageFactory(title="Scheduled", one_off=True)
    message_lifecycle.schedule(scheduled, for_=timezone.now() + timedelta(days=2), at=timezone.now(), reviewed_count=4)
    sampled = MessageFactory(title="Sampled", one_off=True)
    launch.launch(sampled, at=NOW, sample=1)
    paused, stopped = MessageFactory(title="Paused", live=True, rules=asks), MessageFactory(title="Stopped", live=True)
    lifecycle.pause(paused)
    Message.objects.filter(pk=paused.pk).update(paused_because="10 of 1,000 recipients marked it as spam (1.00 %).")
    lifecycle.stop(stopped)
    return {
        "news": news,
        "welcome": MessageFactory(title="Welcome", live=True),
        "email": MessageFactory(title="Draft", rules=asks),
        "chat": MessageFactory(title="Chat", in_app=True),
        "push": MessageFactory(title="Push", channel="push"),
        "scheduled": scheduled,
        "sampled": sampled,
        "paused": paused,
        "stopped": stopped,
    }


def settle(news: Message) -> None:
    """Make two copies of the message sent and uncertain through the allowed transitions."""
    first, second = list(news.records.order_by("pk").values_list("pk", flat=True))[:2]
    rows = DeliveryRecord.objects.filter(pk__in=[first, second])
    rows.mark_sending(claim=uuid.uuid4(), until=NOW)
    rows.update(taken_at=NOW)
    mark_records_sent(DeliveryRecord.objects.filter(pk=first), at=NOW)
    DeliveryRecord.objects.filter(pk=second).mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
    assert set(news.records.values_list("status", flat=True)) == {Status.SENT, Status.UNCERTAIN, Status.WAITING}


def an_import(boss: User, upto: ImportState | None) -> Import:
    """An import of three lines, one of them invalid, in this state."""
    client = Client()
    client.force_login(boss)
    data = "email,name,Signed up\nada@acme.example,Ada,03/04/2026\nnobody,Eve,\nfay@acme.example,Fay,05/04/2026\n"
    job = stored_import(data, at=NOW, by=boss)
    at = reverse("admin:customer_import_page", args=[job.pk])
    if upto:
        client.post(f"{at}check/", {"target": ["email", "name", "signed_up_at"]})
    if upto == ImportState.DONE:
        client.post(f"{at}write/")
    job.refresh_from_db()
    assert job.state == (upto or ImportState.UPLOADED)
    return job


# Pages behind buttons: a start page and the steps from it.


def asked_for_the_number(page: Page, origin: str) -> None:
    """Press “Set live” for a large audience, which asks for the number of people."""
    Workspace.objects.update(confirm_above=1)
    page.on("dialog", lambda asked: asked.accept())
    page.goto(origin + reverse("admin:messaging_message_change", args=[Message.objects.get(title="Sampled").pk]))
    page.get_by_role("button", name="Send to the rest").click()
    page.get_by_label("To confirm, type the number of people").wait_for()


def told_what_is_missing(page: Page, origin: str) -> None:
    """Submit an incomplete composer, which shows field errors."""
    page.goto(origin + reverse("admin:messaging_message_add"))
    page.get_by_label("Subject").fill("Hello {{ first_name")
    page.get_by_role("button", name="Save draft").last.click()
    page.locator(".ob-error:visible").first.wait_for()


def a_rule_being_written(page: Page, origin: str) -> None:
    """Open the rule builder and the menu of variables."""
    page.goto(origin + reverse("admin:messaging_message_add"))
    page.get_by_label("Ongoing").check()
    page.get_by_role("button", name="Add a rule").click()
    page.locator(".ob-text").get_by_role("button", name="Insert variable").click()
    page.locator("#variable-text").wait_for()


def a_button_being_designed(page: Page, origin: str) -> None:
    """Open the dialog of a button in an email, above its text with columns."""
    page.goto(origin + reverse("admin:messaging_message_add"))
    page.locator("trix-editor").click()
    page.get_by_role("button", name="Columns", exact=True).click()
    page.get_by_role("button", name="Button", exact=True).click()
    page.locator("#design-button-text").wait_for()


def tagging_those_ticked(page: Page, origin: str) -> None:
    """Open the page that tags the selected people."""
    page.goto(origin + reverse("admin:audiences_customer_changelist"))
    page.evaluate(
        """() => {
            const form = document.getElementById('changelist-form');
            form.querySelector('input[name=_selected_action]').checked = true;
            const action = form.querySelector('[name=action]');
            action.value = 'tag_ticked';
            HTMLFormElement.prototype.submit.call(form);
        }"""
    )
    page.get_by_role("heading", name="Add or remove a tag").first.wait_for()


BY_BUTTON: tuple[Callable[[Page, str], None], ...] = (
    a_rule_being_written,
    a_button_being_designed,
    told_what_is_missing,
    tagging_those_ticked,
    asked_for_the_number,
)


def settled(page: Page) -> None:
    """Wait until the page has loaded completely."""
    page.wait_for_function(SETTLED)


def serious(page: Page, how: str = SERIOUS) -> list[str]:
    """Return axe's serious findings in words. Frames are excluded: their content is written by the message's author."""
    found = page.evaluate(f"axe.run(document, {{resultTypes: ['violations'], iframes: false, ...{how}}})")
    return [
        f"{wrong['id']}: {wrong['help']} ({json.dumps([node['target'] for node in wrong['nodes'][:4]])})"
        for wrong in found["violations"]
        if wrong["impact"] in ("serious", "critical")
    ]


def switch(page: Page, scheme: str) -> None:
    """Choose light or dark mode in the console's menu."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(CHOOSE, scheme)


def wrong_with(page: Page) -> list[str]:
    """Return the problems of the open page in both sizes and modes."""
    settled(page)
    styles = page.evaluate(STYLES)
    is_new = styles not in READ_STYLES
    READ_STYLES.add(styles)
    everything = f"{{preload: {json.dumps(is_new)}, ...{SERIOUS}}}"
    modes, now = [("light", everything), ("dark", COLOURS)], ""
    wrong = []
    for size, box in SIZES.items():
        page.set_viewport_size(box)
        for scheme, how in modes:
            if scheme != now:
                switch(page, scheme)
            now = scheme
            wrong += [f"{size} {scheme}: {one}" for one in serious(page, how)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{size}: scrolls sideways")
        # The next size begins in the mode of the last one.
        modes.reverse()
    page.set_viewport_size(SIZES["desktop"])
    return [f"{page.url} {one}" for one in wrong]


@pytest.fixture
def page(context) -> Page:
    """A page with axe in it."""
    context.add_init_script(AXE)
    return context.new_page()


@pytest.fixture
def console(context, page, live_server, transactional_db) -> Page:
    boss = User.objects.filter(username="boss").first() or User.objects.create_superuser("boss", password="pass")
    client = Client()
    client.force_login(boss)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    return page


def test_axe_reports_a_field_without_a_label_but_no_moderate_problem(page):
    page.set_content('<html lang="en"><title>A page</title><h1>A page</h1><h4>A level skipped</h4><input></html>')

    assert [one.partition(":")[0] for one in serious(page)] == ["label"]
    assert "heading-order" in page.evaluate("axe.run().then((found) => found.violations.map((one) => one.id))")


@pytest.mark.long
def test_axe_finds_nothing_serious_on_any_page_and_none_breaks_its_policy(
    addresses, console, live_server, browser_errors
):
    wrong = []
    for address in addresses:
        answer = console.goto(live_server.url + address)
        assert answer.status == 200, address
        policy = answer.header_value("content-security-policy")
        assert "script-src 'self' 'unsafe-eval';" in policy + ";"
        framed_by = "'self'" if address.endswith("?sheet=1") else "'none'"
        assert f"frame-ancestors {framed_by}" in policy
        wrong += wrong_with(console)

    assert not wrong, "\n".join(wrong)
    assert browser_errors.found == []


@pytest.mark.usefixtures("addresses")
def test_axe_finds_nothing_serious_on_pages_behind_buttons(console, live_server):
    wrong = []
    for go in BY_BUTTON:
        go(console, live_server.url)
        wrong += wrong_with(console)

    assert not wrong, "\n".join(wrong)


def test_axe_finds_nothing_serious_on_empty_pages(console, live_server):
    wrong = []
    for page in ("index", *(f"{name}_changelist" for name in LISTS[:8]), "deliveryrecord_uncertain"):
        console.goto(live_server.url + reverse(f"admin:{page}"))
        wrong += wrong_with(console)

    assert not wrong, "\n".join(wrong)


def test_recipient_chooses_topics_on_pages_without_serious_findings(page, live_server, transactional_db):
    tips = TopicFactory(name="Tips and tricks", description="How to get more out of Acme. " * 3)
    TopicFactory(name="Product news")
    ann = CustomerFactory(email=f"{'ann' * 20}@a-long-name-of-a-company.example")
    record = MessageFactory(one_off=True, topic=tips, live=True).records.get()
    link = f"{live_server.url}/m/unsubscribe/{rendering.unsubscribe_token(record.pk)}"
    page.goto(link)
    wrong = wrong_with(page)
    page.get_by_role("button", name="Unsubscribe from “Tips and tricks”").click()
    page.get_by_role("heading", name="You are unsubscribed from “Tips and tricks”").wait_for()
    wrong += wrong_with(page)
    page.get_by_role("link", name="Choose what you get").click()
    assert not page.get_by_label("Tips and tricks").is_checked()
    page.get_by_label("Tips and tricks").check()
    page.get_by_label("Product news").uncheck()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("status").wait_for()
    wrong += wrong_with(page)

    assert not wrong, "\n".join(wrong)
    assert [row.topic.name for row in ann.topic_opt_outs.all()] == ["Product news"]


def test_lead_confirms_an_address_on_pages_without_serious_findings(
    console, page, live_server, transactional_db, settings
):
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)
    address = f"{'ann' * 20}@a-long-name-of-a-company.example"
    lead = intake.save_lead({"email": address}, at=timezone.now())
    mail = ConfirmationMail.objects.get()
    profile = live_server.url + reverse("admin:audiences_customer_change", args=[lead.pk])
    wrong = []
    for link in ("/m/confirm/forged", rendering.confirmation_url(mail).removeprefix(settings.PUBLIC_URL)):
        page.goto(live_server.url + link)
        wrong += wrong_with(page)
    page.get_by_role("button", name="Confirm my address").click()
    page.get_by_role("heading", name="Your address is confirmed").wait_for()
    wrong += wrong_with(page)
    for confirmed in (True, False):
        if not confirmed:
            Customer.objects.update(opted_in_at=None)
        console.goto(profile)
        console.get_by_role("heading", name="Double opt-in").wait_for()
        wrong += wrong_with(console)

    assert not wrong, "\n".join(wrong)


def test_axe_finds_nothing_serious_on_the_login_pages(page, live_server, transactional_db, settings):
    invited = User.objects.create_user("new@acme.example", "new@acme.example", is_staff=True)
    forgetful = User.objects.create_user("eve", "eve@acme.example", "pass", is_staff=True)
    to_new_password = "account_reset_password_from_key"
    worn_out = reverse(to_new_password, args=["1", "worn-out"])
    new = reverse(to_new_password, args=[int_to_base36(forgetful.pk), default_token_generator.make_token(forgetful)])
    invitation = invitations.link_for(invited)
    wrong = []
    for door in (reverse("account_login"), reverse("account_reset_password"), worn_out, new, invitation):
        page.goto(live_server.url + door.removeprefix(settings.PUBLIC_URL))
        wrong += wrong_with(page)

    assert not wrong, "\n".join(wrong)


def tab_to(page, name: str) -> None:
    """Press Tab until this field has the focus, unless autofocus has put it there."""
    for _ in range(8):
        if page.evaluate("document.activeElement.id") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"No Tab leads to {name}.")


def test_logs_in_by_keyboard_alone(page, live_server, transactional_db):
    User.objects.create_superuser("boss", "boss@acme.example", "pass")
    page.goto(f"{live_server.url}/admin/login/")

    tab_to(page, "id_username")
    page.keyboard.type("boss")
    tab_to(page, "id_password")
    page.keyboard.type("pass")
    page.keyboard.press("Enter")

    page.wait_for_url("**/admin/")
