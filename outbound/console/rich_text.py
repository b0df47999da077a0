"""The rich-text editor of the console."""

from unfold.contrib.forms.widgets import WysiwygWidget


class RichTextWidget(WysiwygWidget):
    """The theme's editor, fixed so that it keeps the parts of a text that it cannot edit."""

    class Media:
        js = ("outbound/console/rich_text.js", "outbound/console/rich_text_kept.js")
