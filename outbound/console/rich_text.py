"""The rich-text editor of the console."""

from unfold.contrib.forms.widgets import WysiwygWidget


class RichTextWidget(WysiwygWidget):
    """The theme's editor, fixed so that it neither merges neighbouring blocks nor rewrites unedited text."""

    class Media:
        js = ("outbound/console/rich_text.js",)
