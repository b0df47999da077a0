"""What a customer's website loads: messenger.js, the snippet that loads it, images and files in conversations.

messenger.js is a few plain files of `static/messenger`, put together as they are: there is no build.
"""

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags
from django.views.decorators.http import require_safe

from delivery.conversations import attachments

# In the order they need each other.
FILES = ("keep.js", "ask.js", "rich.js", "parts.js", "panel.js", "announcement.js", "messenger.js")
STYLE = "messenger.css"
# A second copy of it on one page has nothing to do.
BEFORE = '(function () {\n"use strict";\nif (window.Outbound && window.Outbound.loaded) return;\ntry {'
# Where a page has broken what all pages stand on, it has no messenger, and no error of ours.
AFTER = '} catch (problem) {\nwindow.console && console.warn("Outbound:", problem);\n}\n})();\n'
# Long enough to spare most page views a request, short enough that a new version is everywhere soon.
CACHED = "public, max-age=300, stale-while-revalidate=86400"


@dataclass(frozen=True, slots=True)
class Script:
    """messenger.js as it is served."""

    plain: bytes
    zipped: bytes
    etag: str


@cache
def script_of(changed: tuple[int, ...]) -> Script:
    """Put messenger.js together, once for each state of its files."""
    style = json.dumps(read_script(STYLE))
    source = "\n".join([BEFORE, f"const STYLE = {style};", *map(read_script, FILES), AFTER])
    plain = source.encode()
    return Script(plain, gzip.compress(plain, 9, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:20]}"')


def found(name: str) -> Path:
    """Where a file of the messenger is."""
    where = finders.find(f"messenger/{name}")
    if not where:
        raise Http404("A file of the messenger is missing.")
    return Path(str(where))


def read_script(name: str) -> str:
    """A file of the messenger."""
    return found(name).read_text("utf-8")


def state() -> tuple[int, ...]:
    """What changes when a file does; looked at each time only where they are being worked on."""
    return tuple(found(name).stat().st_mtime_ns for name in (STYLE, *FILES)) if settings.DEBUG else ()


@require_safe
def script(request: HttpRequest) -> HttpResponse:
    """Serve messenger.js, at one address for ever."""
    current = script_of(state())
    headers = {"ETag": current.etag, "Cache-Control": CACHED, "Cross-Origin-Resource-Policy": "cross-origin"}
    if current.etag in parse_etags(request.headers.get("If-None-Match", "").replace("W/", "")):
        response = HttpResponse(status=304, headers=headers)
    else:
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        body = current.zipped if zipped else current.plain
        response = HttpResponse(body, content_type="text/javascript; charset=utf-8", headers=headers)
        if zipped:
            response["Content-Encoding"] = "gzip"
    patch_vary_headers(response, ("Accept-Encoding",))
    return response


def snippet(*, address: str, settings_of: str = "") -> str:
    """What staff put into their pages: loads messenger.js from this address, and keeps what is called until then."""
    return render_to_string("messenger/snippet.html", {"address": address.rstrip("/"), "settings": settings_of}).strip()


@require_safe
def image(request: HttpRequest, name: str) -> FileResponse:
    """Serve an image of a conversation to whoever knows its name, as an image and nothing else."""
    kept = attachments.open_image(name)
    if kept is None:
        raise Http404("There is no such image.")
    file, content_type = kept
    return FileResponse(
        file,
        content_type=content_type,
        headers={
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": "cross-origin",
        },
    )


@require_safe
def file(request: HttpRequest, key: str, name: str) -> FileResponse:
    """Hand a file of a conversation to whoever knows its address, to be saved: no browser shows or runs it here."""
    kept = attachments.open_file(key, name)
    if kept is None:
        raise Http404("There is no such file.")
    return FileResponse(
        kept,
        as_attachment=True,
        filename=name,
        content_type=attachments.BINARY_TYPE,
        headers={
            "Cache-Control": "private, no-store",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        },
    )
