"""Download a file so that it is whole, the right one, and never fetched twice.

The bytes go to ``FILE.part`` and are renamed to ``FILE`` once length and sha256 are right, so FILE is always whole.
What is needed to go on after a cut or a kill stands in ``FILE.part.json``. The sha256 is written to ``FILE.sha256``
in the form of ``sha256sum``; where none is published, that first one is what later downloads have to match. So that a
cut file never becomes the measure, a ``.gz`` is read to its end before its first sha256 is recorded, and any other file
of which nothing is known is taken only from a server that says where it ends.

Bytes are stored as they come: nothing is decompressed, whatever Content-Encoding says, so that a ``.gz`` that a server
labels "Content-Encoding: gzip" stays the file that it is.
"""

import contextlib
import errno
import gzip
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from rlrecbench.data.sources import Source
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.store import sha256_of, write_whole

CHUNK = 1 << 18  # bytes between two updates of the bar
_LOCAL = ("localhost", "127.0.0.1", "::1")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # worth another try; RFC 9110, RFC 6585, RFC 8470
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 5


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        connect_s: Until it accepts the connection.
        read_s: Between two pieces of data; longer is a stall.
        tries: Tries in a row that bring nothing new.
        pause_s: Before the second try; doubled before each further one.
        longest_pause_s: No pause is longer, whatever the server asks for.
    """

    connect_s: float = 20.0
    read_s: float = 60.0
    tries: int = 5
    pause_s: float = 1.0
    longest_pause_s: float = 60.0


class _TryAgainError(Exception):
    """A fault that may pass: what happened and, where the server says so, how many seconds to wait."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    source: Source,
    folder: Path,
    url: str = "",
    say: Callable[[str], None] = lambda _: None,
    patience: Patience = Patience(),
    show: bool = False,
) -> Path:
    """Fetch one file into a folder, going on where an earlier try stopped.

    Args:
        source: What to fetch.
        folder: Where to; made if it is not there.
        url: A mirror to fetch it from; "": the source's own address.
        say: Gets one sentence for everything worth knowing.
        patience: Time-outs and tries.
        show: Draw a progress bar on stderr.

    Returns:
        The file, whole and checked.

    Raises:
        ConfigError: The address is not https.
        DataError: The file cannot be had or is not the expected one; what can be continued is kept.
    """
    address = _checked(url or source.url)
    target = folder / source.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(target, say):
            if target.is_file():
                digest = _verified(target, source, target)
                say(f"{target}: already there, sha256 {digest}")
            else:
                _fetch(address, source, target, say, patience, show)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{folder}: no space is left; free some and run the command again") from e
        raise DataError(f"{e.filename or folder}: cannot be written: {e.strerror or e}") from e
    return target


def recorded_sha256(file: Path) -> str:
    """Return the sha256 that stands in ``FILE.sha256``, "" where there is none.

    Raises:
        DataError: The file is not what ``sha256sum`` prints.
    """
    beside = file.with_name(file.name + ".sha256")
    if not beside.is_file():
        return ""
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words[0]) != 64:
        raise DataError(f"{beside}: must hold a sha256 of 64 digits; remove the file and run the command again")
    return words[0].lower()


def _checked(url: str) -> str:
    """Refuse an address that anyone on the way could change."""
    with contextlib.suppress(ValueError):  # what urlsplit says of a host that can be none
        parts = urlsplit(url)
        if (parts.scheme == "https" and parts.hostname) or (parts.scheme == "http" and parts.hostname in _LOCAL):
            return url
    raise ConfigError(f"{url!r} is not an https address; only those are downloaded (http from this machine alone)")


@contextlib.contextmanager
def _alone(target: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of one file; a second download of it waits and then finds the file."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{target}: another download of this file is under way; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(url: str, source: Source, target: Path, say: Callable[[str], None], patience: Patience, show: bool) -> None:
    """Try until the file is whole; only tries in a row that bring no new bytes of the same file are counted."""
    part = _Part(target, url)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        requests.Session() as session,
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not show) as progress,
    ):
        task = progress.add_task(source.file, total=source.size)
        failed, tag, furthest = 0, part.tag, part.size
        while True:
            try:
                _once(session, source, part, patience, lambda n, of: progress.update(task, completed=n, total=of))
                break
            except (_TryAgainError, requests.RequestException, urllib3.exceptions.HTTPError) as e:
                if isinstance(e, (requests.exceptions.SSLError, requests.exceptions.InvalidURL)):
                    raise DataError(f"{url}: no safe connection: {str(e)[:200]}") from e
                # The size of a file that is no longer the server's is no measure for the one that came after it.
                changed = bool(tag) and part.tag not in ("", tag)
                failed = 0 if part.size > furthest and not changed else failed + 1
                furthest = part.size if changed else max(furthest, part.size)
                tag = part.tag or tag
                if failed >= patience.tries:
                    again = f"{part.start:,} bytes are kept, run the command again to go on"
                    raise DataError(
                        f"{url}: given up after {failed} tries without new data: {_reason(e)}; "
                        f"{again if part.start else 'run the command again to begin anew'}, or name a mirror with --url"
                    ) from e
                asked = e.wait_s if isinstance(e, _TryAgainError) else 0.0
                pause = min(max(patience.pause_s * 2 ** max(failed - 1, 0), asked), patience.longest_pause_s)
                say(f"{source.file}: {_reason(e)}; going on at {part.start:,} bytes in {pause:.0f} s")
                time.sleep(pause)
    digest = _verified(part.file, source, target)
    part.publish(target)
    known = bool(source.sha256 or recorded_sha256(target))
    _record(digest, target)
    note = "as expected" if known else "recorded; none is published, so this download is what later ones must match"
    say(f"{target}: {target.stat().st_size:,} bytes, sha256 {digest} ({note})")


class _Part:
    """What has come so far, and what the server called the file it came from.

    Going on is safe only if the server's file is still the same, so a part without an ETag or a date is dropped.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.file = target.with_name(target.name + ".part")
        self.about = target.with_name(target.name + ".part.json")
        self.url = url
        self.tag = ""
        self.total: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = json.loads(self.about.read_text(encoding="utf-8"))
            if found.get("url") == url and self.file.is_file():
                self.tag, self.total = str(found.get("tag", "")), found.get("total")
        if not self.tag:
            self.drop()

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.is_file() else 0

    @property
    def start(self) -> int:
        """Where the next try begins: behind what is there, if the server can say that it is still the same file."""
        return self.size if self.tag else 0

    def begin(self, tag: str, total: int | None) -> None:
        """Note which file comes now, before its first byte is written."""
        self.tag, self.total = tag, total
        write_whole(self.about, json.dumps({"url": self.url, "tag": tag, "total": total}).encode())

    def drop(self) -> None:
        self.tag, self.total = "", None
        self.file.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        with self.file.open("rb") as f:
            os.fsync(f.fileno())
        self.file.replace(target)
        self.about.unlink(missing_ok=True)


def _once(
    session: requests.Session,
    source: Source,
    part: _Part,
    patience: Patience,
    moved: Callable[[int, int | None], None],
) -> None:
    """Ask once for what is missing and append it.

    Raises:
        _TryAgainError: The file is not whole yet.
        DataError: Asking again would not help.
    """
    if part.size and part.size == part.total:
        return
    at = part.start
    # identity: a server that compresses on the fly would give other bytes each time, and no length.
    headers = {"Accept-Encoding": "identity"}
    if at:
        headers |= {"Range": f"bytes={at}-", "If-Range": part.tag}
    with _answer(session, part.url, headers, patience) as answer:
        if answer.status_code == 416 or (answer.status_code == 206 and not _continues(answer, part, at)):
            part.drop()
            raise _TryAgainError("the server's file has changed, starting again")
        if answer.status_code not in (200, 206):
            raise _refused(answer)
        if answer.status_code == 200:
            at = 0
        if not at:
            part.drop()
        length = _length(answer)
        total = part.total if length is None else length
        if total is None and not _end_shows(answer, source):
            raise DataError(
                f"{part.url}: the server does not say where the file ends, so a cut would go unnoticed; name a mirror "
                "with --url, or put the file into the raw folder yourself"
            )
        _room(part.file.parent, (total or source.size or 0) - at)
        if not at:
            part.begin(_tag(answer), total)
        with part.file.open("ab") as f:
            # Not iter_content: that one decompresses.
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                f.write(chunk)
                at += len(chunk)
                moved(at, total or source.size)
    if total is not None and at < total:
        raise _TryAgainError(f"the connection was cut at {at:,} of {total:,} bytes")
    if total is not None and at > total:
        part.drop()
        raise _TryAgainError(f"{at:,} bytes came, the server spoke of {total:,}; starting again")


def _answer(session: requests.Session, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """Send a request and follow redirects, each of which must be as safe as the first address."""
    for _ in range(_HOPS + 1):
        times = (patience.connect_s, patience.read_s)
        try:
            # requests parses where a server sends on to even if it is not to follow.
            answer = session.get(url, headers=headers, stream=True, timeout=times, allow_redirects=False)
            if answer.status_code not in _REDIRECTS:
                return answer
            answer.close()
            onward = urljoin(url, answer.headers.get("Location", ""))
        except requests.RequestException:
            raise
        except ValueError as e:
            raise DataError(f"{url}: the server sends on to an address that is none: {e}") from e
        try:
            url = _checked(onward)
        except ConfigError:
            raise DataError(f"{url}: the server sends on to {onward!r}, which is not an https address") from None
    raise DataError(f"{url}: more than {_HOPS} redirects, one after the other")


def _refused(answer: requests.Response) -> Exception:
    said = f"the server answers {answer.status_code} {answer.reason}".rstrip()
    if answer.status_code in _AGAIN:
        after = answer.headers.get("Retry-After", "")
        return _TryAgainError(said, float(after) if after.isdecimal() else 0.0)
    return DataError(f"{answer.url}: {said}; name a mirror with --url, or put the file into the raw folder yourself")


def _continues(answer: requests.Response, part: _Part, at: int) -> bool:
    """Whether a partial answer begins where our part ends and belongs to the same file."""
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    same = part.total is None or total in ("*", str(part.total))
    return span.startswith(f"{at}-") and same and _tag(answer) in ("", part.tag)


def _tag(answer: requests.Response) -> str:
    """Return what If-Range takes: a strong ETag, else the date of the file, else ""; RFC 9110, section 13.1.5."""
    etag = answer.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _length(answer: requests.Response) -> int | None:
    """Return the length of the whole file, None where the server does not say it."""
    header = "Content-Range" if answer.status_code == 206 else "Content-Length"
    length = answer.headers.get(header, "").rpartition("/")[2]
    return int(length) if length.isdecimal() else None


def _end_shows(answer: requests.Response, source: Source) -> bool:
    """Whether a file of unknown length can be told from its beginning: by the last chunk, or by what it must be."""
    chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    return chunked or source.size is not None or bool(source.sha256) or source.file.endswith(".gz")


def _room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {needed:,} more bytes are to come and {free:,} are free; free some space or name another "
            "folder with --data-dir"
        )


def _verified(file: Path, source: Source, target: Path) -> str:
    """Return the sha256 of a whole file; one that is not the expected file is refused, a fresh download removed.

    Raises:
        DataError: Length or sha256 are not the expected ones, or nothing is known of it and it is no whole gzip file.
    """
    size, digest, recorded = file.stat().st_size, sha256_of(file), recorded_sha256(target)
    wrong = ""
    if source.size is not None and size != source.size:
        wrong = f"{size:,} bytes, expected {source.size:,}"
    elif source.sha256 and digest != source.sha256:
        wrong = f"sha256 {digest}, expected {source.sha256}"
    elif not source.sha256 and recorded and digest != recorded:
        wrong = (
            f"sha256 {digest}, the first download had {recorded} (in {target.name}.sha256; remove that file if the "
            "original has really changed)"
        )
    elif not source.sha256 and not recorded and target.suffix == ".gz":
        wrong = _gzip_fault(file)
    if not wrong:
        if file == target and not recorded:
            _record(digest, target)
        return digest
    if file == target:
        raise DataError(f"{target}: {wrong}; it is not the original: remove it and run the command again")
    file.unlink()
    file.with_name(file.name + ".json").unlink(missing_ok=True)
    raise DataError(
        f"{target.name}: what came is not the original and was removed: {wrong}; run the command again, or name a "
        "mirror with --url"
    )


def _gzip_fault(file: Path) -> str:
    """Read a file to its end and say why it is no whole gzip file; "" if it is one."""
    try:
        with gzip.open(file) as f:
            if not f.read(1):
                return "there is nothing in it"
            while f.read(CHUNK):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        return f"not a whole gzip file ({e})"
    return ""


def _record(digest: str, target: Path) -> None:
    write_whole(target.with_name(target.name + ".sha256"), f"{digest}  {target.name}\n".encode())


def _reason(error: Exception) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return "the server does not answer"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no data came for a while"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return f"no connection ({type(error).__name__})"
    return str(error).partition("\n")[0][:200]
