"""The site of the console: pages do not make the list of all tables that they do not show."""

import pytest
from django.contrib.admin import AdminSite
from django.urls import reverse

pytestmark = pytest.mark.django_db


def test_only_pages_that_show_the_list_of_all_tables_make_it(console, monkeypatch):
    made = []
    build = AdminSite._build_app_dict
    monkeypatch.setattr(AdminSite, "_build_app_dict", lambda *given: made.append(given) or build(*given))

    for name in ("index", "audiences_customer_changelist", "messaging_message_add"):
        assert console.get(reverse(f"admin:{name}")).status_code == 200
    assert made == []
    page = console.get(reverse("admin:app_list", args=["audiences"]))
    assert [app["app_label"] for app in page.context["app_list"]] == ["audiences"]
    assert made
