"""What customers and the team put into conversations, kept by Django's storage under names nobody can guess.

An image is one by its first bytes, and is shown. Any other file, which only mail brings, is never shown by us: it is
handed out as bytes to be saved, whatever it says it is.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

import imagesize
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile

from audiences.intake import Refused

LARGEST = 5 * 1024 * 1024
# The dimensions are in this first part of a file, after a camera's preview and metadata.
IMAGE_HEADER_SIZE = 512 * 1024
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
LONGEST_ENDING = 20
ADDRESS = "messenger/images/"
FILE_ADDRESS = "messenger/files/"
KEY = re.compile(r"[0-9a-f]{32}")
BYTES = "application/octet-stream"
CONTENT_TYPE = re.compile(r"(?!image/)[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,100}")
# What some system cannot have in the name of a file; and what makes a name read as another: controls, such as those
# that turn the direction of writing, and what is no character.
NOT_IN_A_NAME = re.compile(r'[<>:"/\\|?*]')
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


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


def image_dimensions(data: bytes) -> tuple[int, int] | None:
    """Return the width and height stored in the first bytes of an image; None if they cannot be read."""
    width, height = imagesize.get(BytesIO(data), exif_rotation=False)
    if width > 0 and data[12:16] == b"VP8 ":
        # The two upper bits of each number in a lossy WebP are a scale, which imagesize does not remove.
        width, height = width & 0x3FFF, height & 0x3FFF
    return (width, height) if width > 0 and height > 0 else None


def store_image(upload: UploadedFile, kind: tuple[str, str]) -> dict[str, Any]:
    """Store an image under a name nobody can guess, and return it as an attachment."""
    content_type, ending = kind
    width, height = image_dimensions(upload.read(IMAGE_HEADER_SIZE)) or (None, None)
    upload.seek(0)
    kept = default_storage.save(f"{FOLDER}{uuid4().hex}.{ending}", upload)
    return {
        "name": called(upload.name or "image"),
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


def check_file(upload: UploadedFile, *, beside: int) -> None:
    """Refuse a file there is nothing of, or too much, or that comes with so many others that are kept."""
    if not upload.size:
        raise Refused("It is empty.", field="files")
    if upload.size > settings.MAIL_FILE_LARGEST:
        raise Refused(f"It is larger than {settings.MAIL_FILE_LARGEST // 2**20} MB.", field="files")
    if beside >= settings.MAIL_FILES_MOST:
        raise Refused(f"At most {settings.MAIL_FILES_MOST} files of one mail are kept.", field="files")


def keep_file(upload: UploadedFile) -> dict[str, Any]:
    """Store any file, and return it as an attachment; what says it is an image and is none of ours is bytes."""
    name, key = called(upload.name or ""), uuid4().hex
    default_storage.save(place_of(key, name), upload)
    content_type = (upload.content_type or "").lower()
    return {
        "name": name,
        "url": f"{settings.PUBLIC_URL}/{FILE_ADDRESS}{key}/{quote(name)}",
        "content_type": content_type if CONTENT_TYPE.fullmatch(content_type) else BYTES,
        "filesize": upload.size,
        "width": None,
        "height": None,
    }


def kept_file(key: str, name: str) -> Any | None:
    """The file of this key, open, where it was kept under this name; None where there is none."""
    if not KEY.fullmatch(key) or name != called(name) or not default_storage.exists(place_of(key, name)):
        return None
    return default_storage.open(place_of(key, name))


def place_of(key: str, name: str) -> str:
    """Where a file lies: told by its name too, so that nobody can hand it on under another one."""
    return f"{FOLDER}{key}.{sha256(name.encode()).hexdigest()[:16]}.bin"


def called(name: str) -> str:
    """A file's own name as every system can have it, in any script; its ending is kept where it is too long."""
    seen = "".join(sign for sign in name if unicodedata.category(sign) not in UNSEEN)
    plain = " ".join(NOT_IN_A_NAME.sub("_", unicodedata.normalize("NFC", seen)).split()).strip(". ")
    if len(plain) > LONGEST_NAME:
        stem, dot, ending = plain.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) < LONGEST_ENDING else ""
        plain = f"{plain[: LONGEST_NAME - len(ending)].strip('. ')}{ending}"
    return plain or "file"


def place_kept(entry: Mapping[str, Any]) -> str:
    """Where the file of an attachment is kept; "" where it was only linked, which is not ours."""
    url = str(entry.get("url") or "")
    name = url.rpartition(ADDRESS)[2]
    key, _, quoted = url.rpartition(FILE_ADDRESS)[2].partition("/")
    if NAME.fullmatch(name):
        return FOLDER + name
    return place_of(key, unquote(quoted)) if KEY.fullmatch(key) else ""


def delete_unused_files(attachments: Iterable[Mapping[str, Any]]) -> None:
    """Keep the files among these no longer."""
    for path in filter(None, map(place_kept, attachments)):
        default_storage.delete(path)
