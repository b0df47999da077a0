"""Content of a message: variables, allowed HTML and Liquid, and rendering for one customer.

check_text, sanitise              when staff save
variables_in, uses_company        for each version
compile_version                   once for each version
variable_values, Compiled.render  for each customer; a version and the same values always render the same copy
"""

from messaging.content.email_layout import build_email_layout
from messaging.content.parser import ContentError
from messaging.content.sanitize import paragraphs_html, sanitise
from messaging.content.template import (
    INVALID_PUSH_LINK,
    TRACKING_CLICK,
    TRACKING_OPEN,
    Compiled,
    Rendered,
    RenderTarget,
    compile_version,
    is_push_link,
    link_destination,
    variables_without_default,
)
from messaging.content.variables import (
    UNSUBSCRIBE_URL,
    VARIABLES,
    check_text,
    fill_in,
    needed_facts,
    uses_company,
    variable_values,
    variables_in,
)

__all__ = [
    "INVALID_PUSH_LINK",
    "TRACKING_CLICK",
    "TRACKING_OPEN",
    "UNSUBSCRIBE_URL",
    "VARIABLES",
    "Compiled",
    "ContentError",
    "RenderTarget",
    "Rendered",
    "build_email_layout",
    "check_text",
    "compile_version",
    "fill_in",
    "is_push_link",
    "link_destination",
    "needed_facts",
    "paragraphs_html",
    "sanitise",
    "uses_company",
    "variable_values",
    "variables_in",
    "variables_without_default",
]
