"""Attachments of conversations, in Django's storage under random names.

An image is recognised by its first bytes, and is displayed. All other files come by email only and are never displayed:
they are served as downloads, whatever content type they claim.
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

# The dimensions of an image are in its first bytes.
IMAGE_HEADER_SIZE = 512 * 1024
MAX_IMAGE_BYTES = 5 * 1024 * 1024
MAX_IMAGES = 5
# Content type, extension in the storage, and first bytes. SVG is missing because it can contain scripts.
IMAGE_TYPES: tuple[tuple[str, str, re.Pattern[bytes]], ...] = (
    ("image/png", "png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", "jpg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", "gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", "webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
)
CONTENT_TYPES = {ending: content_type for content_type, ending, _ in IMAGE_TYPES}
IMAGE_NAME = re.compile(rf"[0-9a-f]{{32}}\.({'|'.join(CONTENT_TYPES)})")
FOLDER = "conversations/"
MAX_NAME_LENGTH = 100
MAX_EXTENSION_LENGTH = 20
IMAGE_PATH = "messenger/images/"
FILE_PATH = "messenger/files/"
FILE_KEY = re.compile(r"[0-9a-f]{32}")
BINARY_TYPE = "application/octet-stream"
CONTENT_TYPE = re.compile(r"(?!image/)[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,100}")
# What some system cannot have in the name of a file; and what makes a name read as another: controls, such as those
# that turn the direction of writing, and what is no character.
NOT_IN_A_NAME = re.compile(r'[<>:"/\\|?*]')
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def check_image(upload: UploadedFile) -> tuple[str, str]:
    """Return the content type and extension of an image by its first bytes; raise Refused for any other file."""
    if not upload.size or upload.size > MAX_IMAGE_BYTES:
        raise Refused(f"Images must be between 1 byte and {MAX_IMAGE_BYTES // 2**20} MB.", field="images")
    beginning = upload.read(32)
    upload.seek(0)
    for content_type, ending, begins in IMAGE_TYPES:
        if begins.match(beginning):
            return content_type, ending
    raise Refused("Images must be PNG, JPEG, GIF or WebP.", field="images")


def image_dimensions(data: bytes) -> tuple[int, int] | None:
    """Return the width and height stored in the first bytes of an image; None if they cannot be read."""
    width, height = imagesize.get(BytesIO(data), exif_rotation=False)
    if width > 0 and data[12:16] == b"VP8 ":
        # The two upper bits of each number in a lossy WebP are a scale, which imagesize does not remove.
        width, height = width & 0x3FFF, height & 0x3FFF
    return (width, height) if width > 0 and height > 0 else None


def store_image(upload: UploadedFile, kind: tuple[str, str]) -> dict[str, Any]:
    """Store an image under a random name, and return it as an attachment."""
    content_type, ending = kind
    width, height = image_dimensions(upload.read(IMAGE_HEADER_SIZE)) or (None, None)
    upload.seek(0)
    stored_as = default_storage.save(f"{FOLDER}{uuid4().hex}.{ending}", upload)
    return {
        "name": safe_file_name(upload.name or "image"),
        "url": f"{settings.PUBLIC_URL}/{IMAGE_PATH}{stored_as.removeprefix(FOLDER)}",
        "content_type": content_type,
        "filesize": upload.size,
        "width": width,
        "height": height,
    }


def open_image(name: str) -> tuple[Any, str] | None:
    """Return an image, opened, and its content type; None if it does not exist."""
    found = IMAGE_NAME.fullmatch(name)
    if found is None or (file := open_stored(FOLDER + name)) is None:
        return None
    return file, CONTENT_TYPES[found[1]]


def check_file(upload: UploadedFile, *, beside: int) -> None:
    """Refuse a file that is empty or too large, or that comes after the maximum number of files (`beside`)."""
    if not upload.size:
        raise Refused("The file is empty.", field="files")
    if upload.size > settings.MAIL_FILE_LARGEST:
        raise Refused(f"The file is larger than {settings.MAIL_FILE_LARGEST // 2**20} MB.", field="files")
    if beside >= settings.MAIL_FILES_MOST:
        raise Refused(f"At most {settings.MAIL_FILES_MOST} files per email are saved.", field="files")


def store_file(upload: UploadedFile) -> dict[str, Any]:
    """Store any file and return it as an attachment; a false or missing content type becomes BINARY_TYPE."""
    name, key = safe_file_name(upload.name or ""), uuid4().hex
    default_storage.save(file_path(key, name), upload)
    content_type = (upload.content_type or "").lower()
    return {
        "name": name,
        "url": f"{settings.PUBLIC_URL}/{FILE_PATH}{key}/{quote(name)}",
        "content_type": content_type if CONTENT_TYPE.fullmatch(content_type) else BINARY_TYPE,
        "filesize": upload.size,
        "width": None,
        "height": None,
    }


def open_file(key: str, name: str) -> Any | None:
    """Return a file, opened, if it was stored with this key and name; else None."""
    if not FILE_KEY.fullmatch(key) or name != safe_file_name(name):
        return None
    return open_stored(file_path(key, name))


def open_stored(path: str) -> Any | None:
    """Return a file of the storage, opened; None if it does not exist. Object storage is asked once."""
    try:
        return default_storage.open(path)
    except FileNotFoundError:
        return None


def file_path(key: str, name: str) -> str:
    """Return the storage path of a file; it depends on the name, so that a URL with another name does not work."""
    return f"{FOLDER}{key}.{sha256(name.encode()).hexdigest()[:16]}.bin"


def safe_file_name(name: str) -> str:
    """Return a file name that every system accepts, in any script; a long name is shortened before its extension."""
    seen = "".join(sign for sign in name if unicodedata.category(sign) not in UNSEEN)
    plain = " ".join(NOT_IN_A_NAME.sub("_", unicodedata.normalize("NFC", seen)).split()).strip(". ")
    if len(plain) > MAX_NAME_LENGTH:
        stem, dot, ending = plain.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) < MAX_EXTENSION_LENGTH else ""
        plain = f"{plain[: MAX_NAME_LENGTH - len(ending)].strip('. ')}{ending}"
    return plain or "file"


def attachment_storage_path(entry: Mapping[str, Any]) -> str:
    """Return the storage path of an attachment; "" if it only links to a file elsewhere."""
    url = str(entry.get("url") or "")
    name = url.rpartition(IMAGE_PATH)[2]
    key, _, quoted = url.rpartition(FILE_PATH)[2].partition("/")
    if IMAGE_NAME.fullmatch(name):
        return FOLDER + name
    return file_path(key, unquote(quoted)) if FILE_KEY.fullmatch(key) else ""


def delete_unused_files(attachments: Iterable[Mapping[str, Any]]) -> None:
    """Delete the stored files of these attachments."""
    for path in filter(None, map(attachment_storage_path, attachments)):
        default_storage.delete(path)
