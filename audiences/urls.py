"""URLs of the API for customers, companies, events and tags, each with and without a trailing slash (wire 5.1)."""

from django.urls import URLPattern, re_path

from audiences.api.base.endpoint import REPEATED_API_PREFIX, Endpoint
from audiences.api.companies import Companies, CompanyUsers, OneCompany
from audiences.api.counts import Admins
from audiences.api.devices import Devices, OneDevice
from audiences.api.events import Events
from audiences.api.leads import Lead, Leads
from audiences.api.me import Me
from audiences.api.notes import Notes, OneNote
from audiences.api.scrolling import LeadScroll, UserScroll
from audiences.api.segments import Segment, Segments
from audiences.api.tags import OneTag, Tags
from audiences.api.users import User, Users

ADDRESSES: dict[str, type[Endpoint]] = {
    "users": Users,
    "users/scroll": UserScroll,
    "users/(?P<pk>[^/]+)": User,
    "contacts": Leads,
    "contacts/scroll": LeadScroll,
    "contacts/(?P<pk>[^/]+)": Lead,
    "companies": Companies,
    "companies/(?P<pk>[^/]+)": OneCompany,
    "companies/(?P<pk>[^/]+)/users": CompanyUsers,
    "events": Events,
    "tags": Tags,
    "tags/(?P<pk>[^/]+)": OneTag,
    "segments": Segments,
    "segments/(?P<pk>[^/]+)": Segment,
    "devices": Devices,
    "devices/(?P<pk>[^/]+)": OneDevice,
    "notes": Notes,
    "notes/(?P<pk>[^/]+)": OneNote,
    "admins": Admins,
    "me": Me,
}
urlpatterns: list[URLPattern] = [
    re_path(rf"^{REPEATED_API_PREFIX}{address}/?$", view.as_view()) for address, view in ADDRESSES.items()
]
