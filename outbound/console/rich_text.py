"""The rich-text editor of the console."""

from unfold.contrib.forms.widgets import WysiwygWidget


class RichTextWidget(WysiwygWidget):
    """The theme's editor, which neither merges neighbouring blocks nor rewrites a text that nobody edited."""

    class Media:
        js = ("outbound/rich_text.js",)
