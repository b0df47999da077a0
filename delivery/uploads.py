"""Images that customers and the team put into conversations: checked by what they are, kept by Django's storage."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile

from audiences.intake import Refused
from audiences.intake.values import storable
from delivery import pixels

LARGEST = 5 * 1024 * 1024
MOST = 5
# Content type, the ending it is kept under, and how such a file begins. SVG is none of them: it can hold a script.
KINDS: tuple[tuple[str, str, re.Pattern[bytes]], ...] = (
    ("image/png", "png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", "jpg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", "gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", "webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
)
CONTENT_TYPES = {ending: content_type for content_type, ending, _ in KINDS}
NAME = re.compile(rf"[0-9a-f]{{32}}\.({'|'.join(CONTENT_TYPES)})")
FOLDER = "conversations/"
LONGEST_NAME = 100
ADDRESS = "messenger/images/"


def check(upload: UploadedFile) -> tuple[str, str]:
    """The content type and ending of an image, by how it begins; Refused where it is none."""
    if not upload.size or upload.size > LARGEST:
        raise Refused(f"An image holds at most {LARGEST // 2**20} MB, and something.", field="images")
    beginning = upload.read(32)
    upload.seek(0)
    for content_type, ending, begins in KINDS:
        if begins.match(beginning):
            return content_type, ending
    raise Refused("An image is a PNG, JPEG, GIF or WebP.", field="images")


def keep(upload: UploadedFile, kind: tuple[str, str]) -> dict[str, Any]:
    """Store an image under a name nobody can guess, and return it as an attachment."""
    content_type, ending = kind
    width, height = pixels.of(upload.read(pixels.LOOKED_AT)) or (None, None)
    upload.seek(0)
    kept = default_storage.save(f"{FOLDER}{uuid4().hex}.{ending}", upload)
    return {
        "name": storable(upload.name or "image")[:LONGEST_NAME],
        "url": f"{settings.PUBLIC_URL}/{ADDRESS}{kept.removeprefix(FOLDER)}",
        "content_type": content_type,
        "filesize": upload.size,
        "width": width,
        "height": height,
    }


def kept_image(name: str) -> tuple[Any, str] | None:
    """The image of this name, open, and its content type; None where there is none."""
    found = NAME.fullmatch(name)
    if found is None or not default_storage.exists(FOLDER + name):
        return None
    return default_storage.open(FOLDER + name), CONTENT_TYPES[found[1]]


def forget(attachments: Iterable[Mapping[str, Any]]) -> None:
    """Keep the images among these no longer; what was only linked is not ours."""
    for entry in attachments:
        name = str(entry.get("url", "")).rpartition(ADDRESS)[2]
        if NAME.fullmatch(name):
            default_storage.delete(FOLDER + name)
