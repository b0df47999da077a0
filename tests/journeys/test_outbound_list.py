"""The list of all Ongoing and One-off messages."""

import re
from html import unescape
from urllib.parse import urljoin

from django.urls import reverse


def names(page: str) -> set[str]:
    return set(re.findall(r"(?:Welcome|Trial ends|New feature|Maintenance|Half written)", page))


def test_outbound_list_is_filtered_by_ongoing_and_one_off(staff, server):
    """To see all your Ongoing or One-off messages in one place, use this filter on the messages list."""
    server.user("ann")
    staff.sets_live(title="Welcome", send_type="ongoing")
    staff.sets_live(title="Trial ends", send_type="ongoing", channel="in_app")
    staff.sets_live(title="New feature", send_type="one_off")
    staff.saves(title="Half written", send_type="one_off")

    here = reverse("admin:messaging_message_changelist")
    tabs = re.findall(r'<a href="([^"]+)"[^>]*>(All|Ongoing|One-off)</a>', staff.opens("messaging_message_changelist"))
    listed = {label: names(staff.browser.get(urljoin(here, unescape(link))).content.decode()) for link, label in tabs}

    assert listed == {
        "All": {"Welcome", "Trial ends", "New feature", "Half written"},
        "Ongoing": {"Welcome", "Trial ends"},
        "One-off": {"New feature", "Half written"},
    }


def test_outbound_list_is_filtered_by_state_and_channel_too(staff, server):
    """To see all your Ongoing or One-off messages in one place, use this filter on the messages list."""
    server.user("ann")
    staff.sets_live(title="Welcome")
    staff.sets_live(title="New feature", send_type="one_off", channel="in_app")
    staff.does("pause", staff.sets_live(title="Maintenance"))

    for query, found in (
        ({"state__exact": "paused"}, {"Maintenance"}),
        ({"state__exact": "live"}, {"Welcome", "New feature"}),
        ({"channel__exact": "in_app"}, {"New feature"}),
        ({"channel__exact": "email", "send_type__exact": "ongoing"}, {"Welcome", "Maintenance"}),
    ):
        assert names(staff.reads("messaging_message_changelist", **query)) == found, query


def test_log_names_the_teammate_who_sets_live_pauses_resumes_or_stops(staff, server):
    """Where are all my messages? (The log names the teammate who sets live, pauses, resumes or stops.)"""
    message = staff.sets_live(title="Welcome")
    for verb in ("pause", "resume", "stop"):
        staff.does(verb, message)

    log = staff.reads("messaging_message_history", message)

    for said in ("Set live", "Paused", "Resumed", "Stopped"):
        assert said in log
    assert "ada" in log.lower()
