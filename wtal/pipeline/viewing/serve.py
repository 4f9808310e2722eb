"""Serve the page of a report on this machine only, and save its verdicts as they are given.

Everything is below a random token in the address. Requests that name another host, or come from another page, are
refused, so that no web page can read the videos or write verdicts.
"""

import hashlib
import mimetypes
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from wtal.data.verdicts import Verdicts, changing, parse_verdicts, write_verdicts
from wtal.errors import FormatError

_MOST_BYTES = 64 << 20
"""Maximum bytes of verdicts per request."""
_PIECE = 1 << 18
_VERDICTS = "verdicts.json"


class ReportServer(ThreadingHTTPServer):
    """Server of one report on 127.0.0.1: `address` opens it, `verdicts` is the file that it saves."""

    daemon_threads = True

    def __init__(self, folder: Path, verdicts: Path, media: Mapping[str, Path], port: int = 0) -> None:
        self.folder, self.verdicts, self.media = folder.resolve(), verdicts, media
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def hosts(self) -> tuple[str, str]:
        """Host names for a browser on this machine."""
        return f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{self.hosts[0]}/{self.token}/index.html"

    def verdicts_text(self) -> bytes:
        """Return the content of the file of verdicts; an empty set if there is no file yet."""
        if self.verdicts.is_file():
            return self.verdicts.read_bytes()
        return f"{Verdicts().model_dump_json()}\n".encode()


def serve(folder: Path, verdicts: Path, media: Mapping[str, Path], port: int, say: Callable[[str], object]) -> None:
    """Serve a report until interrupted; `say` receives its address. `media` maps the number of a video -> its file."""
    with ReportServer(folder, verdicts, media, port) as server:
        say(server.address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def mark_of(content: bytes) -> str:
    """Return a mark that identifies a content of the file of verdicts."""
    return hashlib.sha256(content).hexdigest()[:32]


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    protocol_version = "HTTP/1.1"
    server_version = "wtal"
    sys_version = ""

    def do_GET(self) -> None:
        """Send a file of the report, a video, or the verdicts."""
        name = self._name()
        if name is None:
            return
        if name == _VERDICTS:
            content = self.server.verdicts_text()
            self._send(content, "application/json", {"ETag": mark_of(content)})
        elif name == "index.html":
            page = (self.server.folder / name).read_text(encoding="utf-8")
            self._send(page.replace("<html ", '<html data-served="yes" ', 1).encode(), "text/html; charset=utf-8")
        elif name.startswith("media/"):
            self._send_file(self.server.media.get(name.removeprefix("media/")))
        else:
            path = (self.server.folder / name).resolve()
            self._send_file(path if path.is_relative_to(self.server.folder) else None)

    do_HEAD = do_GET  # noqa: N815 - http.server looks for this name

    def do_POST(self) -> None:
        """Save verdicts, unless the file has changed since the page read it; the page then reloads it."""
        name = self._name()
        if name is None:
            return
        length = self.headers.get("Content-Length", "")
        if name != _VERDICTS or not length.isdecimal() or int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.NOT_FOUND if name != _VERDICTS else HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        try:
            verdicts = parse_verdicts(body.decode("utf-8", "replace"), "the request")
        except FormatError as error:
            self._send(str(error).encode(), "text/plain; charset=utf-8", status=HTTPStatus.BAD_REQUEST)
            return
        with changing(self.server.verdicts):
            before = mark_of(self.server.verdicts_text())
            if self.headers.get("If-Match", before) != before:
                self._refuse(HTTPStatus.CONFLICT)
                return
            write_verdicts(verdicts, self.server.verdicts)
            after = mark_of(self.server.verdicts_text())
        self._send(b"", "text/plain", {"ETag": after})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named so by http.server
        """Suppress logging: stderr is for the progress of the command."""

    def _name(self) -> str | None:
        """Return the path below the token; respond and return None if host, origin or token is wrong."""
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        token, _, rest = urlsplit(self.path).path.lstrip("/").partition("/")
        local = host in self.server.hosts and origin in (None, f"http://{host}")
        if local and secrets.compare_digest(token.encode(), self.server.token.encode()):
            return unquote(rest) or "index.html"
        self._refuse(HTTPStatus.FORBIDDEN)
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status.phrase.encode(), "text/plain", status=status)

    def _send(
        self, content: bytes, kind: str, headers: Mapping[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self._head(status, kind, len(content), {"Cache-Control": "no-store", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        usual = {
            "Content-Type": kind,
            "Content-Length": str(length),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**usual, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, path: Path | None) -> None:
        """Send a file, or the range requested by a player."""
        if path is None or not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        start, stop = self._range(size)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        part = (start, stop) != (0, size)
        headers = {"Accept-Ranges": "bytes", **({"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if part else {})}
        self._head(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK, kind, stop - start, headers)
        if self.command == "HEAD":
            return
        with path.open("rb") as file:
            file.seek(start)
            self._copy(file, stop - start)

    def _range(self, size: int) -> tuple[int, int]:
        """Return the first byte requested, and the one after the last; all if the range is invalid."""
        unit, _, wanted = self.headers.get("Range", "").partition("=")
        first, dash, last = wanted.partition("-")
        if unit != "bytes" or not dash or not (first or last) or not f"{first}{last}".isdecimal():
            return 0, size
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        return (start, stop) if start < stop else (0, size)

    def _copy(self, file: BinaryIO, left: int) -> None:
        try:
            while left and (piece := file.read(min(_PIECE, left))):
                self.wfile.write(piece)
                left -= len(piece)
        except (BrokenPipeError, ConnectionResetError):  # players hang up when they have enough
            self.close_connection = True
