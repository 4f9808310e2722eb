"""Large files by HTTP: resumed where they broke off, checked, and published whole or not at all."""

import fcntl
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wtal.errors import WeightsError

_CHUNK = 1 << 20
_TIMEOUT = 30.0
"""Seconds without a byte after which a download is given up."""
_ATTEMPTS = 5
"""Transfers that may break off, each after some progress, before a download is given up."""


def download(url: str, path: Path, check: Callable[[Path], None]) -> None:
    """Bring the file at `url` to `path`, with a bar on stderr.

    The bytes go to `path` with `.part` behind it, which is kept when the transfer breaks off, and continued where the
    server can. Once whole it goes through `check`, which raises when it is not the right file; then it is deleted.
    Of two processes that want the same file, one waits for the other.

    Raises:
        WeightsError: when it cannot be downloaded, with the url and the place to put the file.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists():
                _transfer_all(url, file, path)
                _publish(file, part, path, check)
    except OSError as error:
        raise WeightsError(f"cannot write {part}: {error.strerror or error}") from None


def _publish(file: BinaryIO, part: Path, path: Path, check: Callable[[Path], None]) -> None:
    """Check the whole partial file, and give it its name."""
    file.flush()
    os.fsync(file.fileno())
    try:
        check(part)
    except WeightsError:
        part.unlink()
        raise
    part.replace(path)


def _transfer_all(url: str, file: BinaryIO, path: Path) -> None:
    """Transfer `url` behind what `file` holds already, again from there where a transfer breaks off with progress."""
    for _ in range(_ATTEMPTS):
        before = file.seek(0, os.SEEK_END)
        try:
            if _transfer(url, file):
                return
            reason = "the transfer broke off; the part that came is kept, run again to resume"
        except urllib.error.HTTPError as error:
            raise _unavailable(url, path, f"HTTP {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (HTTPException, OSError) as error:
            reason = str(error) or type(error).__name__
        if file.seek(0, os.SEEK_END) == before:
            break
    raise _unavailable(url, path, reason)


def _unavailable(url: str, path: Path, reason: str) -> WeightsError:
    return WeightsError(f"cannot download {url} ({reason}); put the file at {path}")


def _transfer(url: str, file: BinaryIO) -> bool:
    """One request for what is missing behind the end of `file`; True once the file is whole."""
    have = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(
        url, headers={"User-Agent": "wtal"} | ({"Range": f"bytes={have}-"} if have else {})
    )
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return _is_whole(error.headers.get("Content-Range"), file, have)
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise urllib.error.URLError("a web page came instead of the file")
        if have and response.status != 206:
            file.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _copy(response, file, have, total, url.rpartition("/")[2])
    return total is None or file.seek(0, os.SEEK_END) == total


def _is_whole(content_range: str | None, file: BinaryIO, have: int) -> bool:
    """After "range not satisfiable": whether the file has all its bytes; a file that has too many starts anew."""
    if content_range == f"bytes */{have}":
        return True
    file.truncate(0)
    return False


def _copy(response: BinaryIO, file: BinaryIO, have: int, total: int | None, name: str) -> None:
    """Append the rest of a response to `file`, with a bar on stderr."""
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total, completed=have)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.advance(task, len(chunk))
