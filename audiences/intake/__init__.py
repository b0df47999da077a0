"""Data in: what integrations and browsers tell us about customers, companies, events and tags (wire 5.10 to 5.13).

Nothing here reads the clock or knows HTTP. Whatever cannot be taken raises `Refused`, in a sentence for its sender.
"""

from audiences.intake.attributes.fields import NotInCatalogue, Refused, Warnings
from audiences.intake.attributes.refused_names import accept_name, note_refused
from audiences.intake.bulk_jobs import submit, work_off
from audiences.intake.companies import upsert_company
from audiences.intake.devices import register_device, retire_device
from audiences.intake.events import record_event
from audiences.intake.identity_resolution import Conflict, Unknown, find, find_company
from audiences.intake.leads import save_lead
from audiences.intake.messenger_settings import from_browser
from audiences.intake.source import Source
from audiences.intake.tags import find_or_make_tag, rename_tag, tag, untag
from audiences.intake.upsert import archive, identify, identify_here

__all__ = [
    "Conflict",
    "NotInCatalogue",
    "Refused",
    "Source",
    "Unknown",
    "Warnings",
    "accept_name",
    "archive",
    "find",
    "find_company",
    "find_or_make_tag",
    "from_browser",
    "identify",
    "identify_here",
    "note_refused",
    "record_event",
    "register_device",
    "rename_tag",
    "retire_device",
    "save_lead",
    "submit",
    "tag",
    "untag",
    "upsert_company",
    "work_off",
]
