"""URLs of the API for customers, companies, events and tags, each with and without a trailing slash (wire 5.1)."""

from audiences.api import schema
from audiences.api.base.endpoint import Endpoint
from audiences.api.base.routing import api_routes
from audiences.api.companies import Companies, CompanyUsers, OneCompany
from audiences.api.counts import Admins, OneAdmin
from audiences.api.devices import Devices, OneDevice
from audiences.api.events import Events
from audiences.api.leads import Lead, Leads
from audiences.api.me import Me
from audiences.api.notes import Notes, OneNote
from audiences.api.scrolling import CompanyScroll, LeadScroll, UserScroll
from audiences.api.search import CustomerSearch
from audiences.api.segments import Segment, Segments
from audiences.api.tags import OneTag, Tags
from audiences.api.topics import ContactSubscriptions, OneContactSubscription, SubscriptionTypes
from audiences.api.users import User, Users

ADDRESSES: dict[str, type[Endpoint]] = {
    "users": Users,
    "users/scroll": UserScroll,
    "users/(?P<pk>[^/]+)": User,
    "contacts": Leads,
    "contacts/scroll": LeadScroll,
    "contacts/(?P<pk>[^/]+)": Lead,
    "contacts/(?P<pk>[^/]+)/subscriptions": ContactSubscriptions,
    "contacts/(?P<pk>[^/]+)/subscriptions/(?P<subscription_id>[^/]+)": OneContactSubscription,
    "subscription_types": SubscriptionTypes,
    "customers/search": CustomerSearch,
    "companies": Companies,
    "companies/scroll": CompanyScroll,
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
    "admins/(?P<pk>[^/]+)": OneAdmin,
    "me": Me,
}
urlpatterns = api_routes(ADDRESSES, calls=schema.CALLS, schemas=schema.SCHEMAS)
