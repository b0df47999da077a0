"""The rich-text editor of the console."""

from typing import Any

from unfold.contrib.forms.widgets import WysiwygWidget

from audiences.models import Workspace


class RichTextWidget(WysiwygWidget):
    """The theme's editor, fixed so that it keeps the parts of a text that it cannot edit."""

    class Media:
        js = tuple(f"outbound/console/rich_text{part}.js" for part in ("", "_kept", "_paste"))


class MessageTextWidget(RichTextWidget):
    """The editor of a message. The tools for a designed email need the workspace's colour."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return super().get_context(name, value, {**(attrs or {}), "data-colour": Workspace.current().colour})
