"""Our copy of Unfold's page skeleton."""

from pathlib import Path

import unfold
from django.conf import settings

SKELETON = "templates/unfold/layouts/skeleton.html"


def test_our_skeleton_is_unfolds_with_a_block_for_modules_before_alpine():
    theirs = (Path(unfold.__path__[0]) / SKELETON).read_text().splitlines()
    ours = (settings.BASE_DIR / SKELETON).read_text().splitlines()
    added = [line for line in ours if line not in theirs]

    assert [line for line in ours if line not in added] == theirs
    assert added[-1].strip() == "{% block modules %}{% endblock %}"
    assert len(added) == 3
    first_of_alpine = min(number for number, line in enumerate(ours) if "unfold/js/alpine" in line)
    assert ours.index(added[-1]) < first_of_alpine
