"""Images in messages: uploaded by staff, stored in Django's storage, served to readers of the message."""

import mimetypes
import re
import secrets
from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase

FOLDER = "pictures"
MAX_SIZE = 5 * 1024 * 1024
FILE_NAME = re.compile(r"[\w-]{22}\.(?:png|jpg|gif|webp)")
# The type by the first bytes; the file name is ignored.
SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "jpg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "gif": lambda head: head[:6] in (b"GIF87a", b"GIF89a"),
    "webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
}


def store_image(upload: "File[bytes] | None") -> str:
    """Store an image and return its path on this host; raise ValidationError if it is not a supported image."""
    if upload is None:
        raise ValidationError("Choose an image.")
    if upload.size > MAX_SIZE:
        raise ValidationError(f"This image is larger than {MAX_SIZE // 1024 // 1024} MB. Choose a smaller one.")
    taken = upload.read()
    kind = next((kind for kind, is_it in SIGNATURES.items() if is_it(taken[:16])), None)
    if kind is None:
        raise ValidationError("That file is not an image. Choose a PNG, JPEG, GIF or WebP file.")
    name = f"{secrets.token_urlsafe(16)}.{kind}"
    default_storage.save(f"{FOLDER}/{name}", ContentFile(taken))
    return f"/{FOLDER}/{name}"


def serve_image(_request: HttpRequest, name: str) -> HttpResponseBase:
    """Serve an image without a login, because email readers are not logged in."""
    if not FILE_NAME.fullmatch(name):
        raise Http404("There is no such image.")
    try:
        image = default_storage.open(f"{FOLDER}/{name}")
    except FileNotFoundError as missing:
        raise Http404("There is no such image.") from missing
    kind = mimetypes.types_map.get(f".{name.rpartition('.')[2]}", "image/webp")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return FileResponse(image, content_type=kind, headers=headers)
