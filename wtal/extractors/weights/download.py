"""Download large files by HTTP: resumed after interruptions, checked, and published whole or not at all."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wtal.data.files import append, is_full, room_for, with_room
from wtal.data.locks import alone
from wtal.errors import WeightsError

_CHUNK = 1 << 20
_TIMEOUT = 30.0
"""Seconds without a byte after which a download is abandoned."""
_ATTEMPTS = 5
"""Maximum interrupted transfers, each with some progress, before a download is abandoned."""
_NUMBER = re.compile("[0-9]+")
_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)")


def download(url: str, path: Path, check: Callable[[Path], None]) -> None:
    """Download the file at `url` to `path`, with a bar on stderr.

    Bytes go to `path` with the suffix `.part`, which is kept when the transfer is interrupted, and continued if the
    server supports it and the file there is unchanged: its tag is kept in `.part.tag`. The complete file is passed to
    `check`, which raises if it is not the right one; it is then deleted. If two processes need the same file,
    one waits for the other.

    Raises:
        WeightsError: when it cannot be downloaded, with the url and the place to put the file.
        DiskFullError: when there is no space for it.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        with alone(path.with_name(f".{path.name}.lock")):
            if path.exists():  # whom we waited for has published it
                return
            with part.open("a+b", buffering=0) as file:
                transfer = _Transfer(url, path, part, file)
                transfer.bring()
            transfer.publish(check)
    except OSError as error:
        if is_full(error):
            raise with_room(error, part) from None
        raise WeightsError(f"cannot write {part}: {error.strerror or error}") from None


def _extent(status: int, headers: Message) -> tuple[int, int | None]:
    """Return the offset of a response in the file, -1 if unstated; and the length of the file, if stated."""
    start, total = 0, "*"
    if status == 206:
        if (extent := _RANGE.fullmatch(headers.get("Content-Range", ""))) is None:
            return -1, None
        start, total = int(extent[1]), extent[2]
    if _NUMBER.fullmatch(total):
        return start, int(total)
    length = headers.get("Content-Length", "")
    return start, start + int(length) if _NUMBER.fullmatch(length) else None


class _Transfer:
    """Transfer of the missing rest of one file, appended to its open `.part`."""

    def __init__(self, url: str, path: Path, part: Path, file: FileIO) -> None:
        self._url, self._path, self._part, self._file = url, path, part, file
        self._tag = part.with_name(part.name + ".tag")

    def bring(self) -> None:
        """Transfer the rest to the disk."""
        self._all()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._tag.unlink(missing_ok=True)

    def publish(self, check: Callable[[Path], None]) -> None:
        """Check the whole, whose file is closed by now, and give it its name."""
        try:
            check(self._part)
        except WeightsError:
            self._part.unlink()
            raise
        self._part.replace(self._path)

    def _all(self) -> None:
        """Resume after interruptions, as long as each transfer makes progress."""
        for _ in range(_ATTEMPTS):
            before = self._have()
            try:
                if self._once(before):
                    return
                reason = "the transfer was interrupted; the received part is kept, run again to resume"
            except urllib.error.HTTPError as error:
                raise self._unavailable(f"HTTP {error.code} {error.reason}") from None
            except urllib.error.URLError as error:
                reason = str(error.reason)
            except (HTTPException, OSError) as error:
                reason = str(error) or type(error).__name__
            if self._have() == before:
                break
        raise self._unavailable(reason)

    def _once(self, have: int) -> bool:
        """Request the bytes missing after the first `have`; return True once the file is whole."""
        try:
            response = urllib.request.urlopen(self._request(have), timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:
                return self._is_whole(error.headers.get("Content-Range"), have)
            raise
        with response:
            if response.headers.get_content_type() == "text/html":
                raise urllib.error.URLError("got a web page instead of the file")
            start, total = _extent(response.status, response.headers)
            if start not in (0, have):
                self._file.truncate(0)
                return False
            self._file.truncate(start)
            self._remember(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
            self._copy(response, start, total)
        return total is None or self._have() == total

    def _request(self, have: int) -> urllib.request.Request:
        """Create a request for the bytes from `have` on, or for all if the file on the server has changed."""
        headers = {"User-Agent": "wtal"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._tag.exists():
                headers["If-Range"] = self._tag.read_text(encoding="utf-8")
        return urllib.request.Request(self._url, headers=headers)

    def _remember(self, tag: str) -> None:
        """Keep the server's tag of the file; a weak tag does not identify its bytes."""
        if tag and not tag.startswith("W/"):
            with room_for(self._tag):
                self._tag.write_text(tag, encoding="utf-8")
        else:
            self._tag.unlink(missing_ok=True)

    def _is_whole(self, content_range: str | None, have: int) -> bool:
        """Return whether the file is complete, after "range not satisfiable"; one with too many bytes starts again."""
        if content_range == f"bytes */{have}":
            return True
        self._file.truncate(0)
        return False

    def _have(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def _unavailable(self, reason: str) -> WeightsError:
        if not self._have():
            self._tag.unlink(missing_ok=True)
        return WeightsError(f"cannot download {self._url} ({reason}); put the file at {self._path}")

    def _copy(self, response: BinaryIO, have: int, total: int | None) -> None:
        """Append the rest of a response to the file, with a bar on stderr."""
        name = self._url.rpartition("/")[2]
        columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total, completed=have)
            while chunk := response.read(_CHUNK):
                with room_for(self._part, total):
                    append(self._file.fileno(), chunk)
                bar.advance(task, len(chunk))
