"""Data intake: customers, companies, events and tags from integrations and browsers (wire 5.10 to 5.13).

The modules never read the clock and do not know HTTP. Bad data raises `Refused` with a sentence for its sender.
"""

from audiences.intake.attributes.fields import NotInCatalogue, Refused, Warnings
from audiences.intake.attributes.refused_names import accept_name, note_refused_names
from audiences.intake.bulk_jobs import process_jobs, submit_job
from audiences.intake.companies import upsert_company
from audiences.intake.confirmation import ask_again, ask_several
from audiences.intake.devices import register_device, retire_device
from audiences.intake.events import record_event
from audiences.intake.identity_resolution import Conflict, Unknown, find_company, find_customer
from audiences.intake.leads import save_lead
from audiences.intake.messenger_settings import facts_from_settings
from audiences.intake.source import Source
from audiences.intake.tags import add_tag, find_or_make_tag, remove_tag, rename_tag
from audiences.intake.topics import opt_in_to_topic, opt_out_of_topic
from audiences.intake.upsert import archive_customer, identify, identify_in_transaction

__all__ = [
    "Conflict",
    "NotInCatalogue",
    "Refused",
    "Source",
    "Unknown",
    "Warnings",
    "accept_name",
    "add_tag",
    "archive_customer",
    "ask_again",
    "ask_several",
    "facts_from_settings",
    "find_company",
    "find_customer",
    "find_or_make_tag",
    "identify",
    "identify_in_transaction",
    "note_refused_names",
    "opt_in_to_topic",
    "opt_out_of_topic",
    "process_jobs",
    "record_event",
    "register_device",
    "remove_tag",
    "rename_tag",
    "retire_device",
    "save_lead",
    "submit_job",
    "upsert_company",
]
