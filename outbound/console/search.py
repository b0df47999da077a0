"""Limits for search boxes, so that no search keeps the database busy for long."""

from typing import Any

from django import forms
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import ValidationError

MAX_WORDS = 10
MAX_CHARACTERS = 200
TOO_LONG = f"Search for at most {MAX_WORDS} words and {MAX_CHARACTERS} characters."


def is_too_long(search: str) -> bool:
    """Whether a search is refused; TOO_LONG is the text to show."""
    return len(search.strip()) > MAX_CHARACTERS or len(search.split()) > MAX_WORDS


class SearchForm(forms.Form):
    """The search form of a list; Django shows its errors as messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[SEARCH_VAR] = forms.CharField(required=False, strip=False, validators=[check_search])


def check_search(search: str) -> None:
    if is_too_long(search):
        raise ValidationError(TOO_LONG)
