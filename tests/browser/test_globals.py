"""Scripts share no globals: a page has the same global names with our scripts and without them."""

import pytest
from django.urls import reverse
from django.utils import timezone

from audiences.models import Customer
from delivery.conversations import threads
from tests.browser.conftest import global_names, without_scripts
from tests.factories import CustomerFactory, MessageFactory, SegmentFactory, SenderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def paths(transactional_db) -> dict[str, str]:
    """The pages of the console that load scripts of their own, and one that does not."""
    SenderFactory()
    customer = CustomerFactory(name="Ada Byron", email="ada@acme.example")
    thread = threads.open_by_customer(customer, body="Where is my invoice?", at=timezone.now())
    return {
        "inbox": reverse("admin:delivery_conversation_change", args=[thread.pk]),
        "composer": reverse("admin:messaging_message_add"),
        "edit content": reverse("admin:message_edit_content", args=[MessageFactory(live=True).pk]),
        "send a message": reverse("admin:customer_send_message", args=[Customer.objects.get().pk]),
        "people": reverse("admin:audiences_customer_changelist"),
        "segment": reverse("admin:audiences_audience_change", args=[SegmentFactory().pk]),
        "integration": reverse("admin:audiences_integration_changelist"),
        "import": reverse("admin:customer_import_file"),
    }


def test_console_scripts_define_no_globals(console, context, live_server, paths, browser_errors):
    # Without our scripts, the templates name missing components.
    browser_errors.allow(".")
    bare = without_scripts(context.new_page(), "**/static/*/outbound/**/*.js")
    defined = {}
    for name, path in paths.items():
        for page in (console, bare):
            page.goto(live_server.url + path)
            page.wait_for_load_state("networkidle")
        defined[name] = global_names(console) - global_names(bare)

    assert not any(defined.values()), defined
