"""Downloads against a server on this machine that cuts, stalls, lies, redirects and changes its mind."""

import errno
import gzip
import io
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlrecbench.data.download import Patience, download
from rlrecbench.data.sources import Source
from rlrecbench.errors import ConfigError, DataError

QUICK = Patience(connect_s=30, read_s=30, tries=5, pause_s=0.001, longest_pause_s=0.01)
IMPATIENT = replace(QUICK, read_s=0.3)  # with servers that stall
# gzip files that are as long as what is in them; the first has more than two chunks.
CONTENT = gzip.compress(bytes(i * i % 251 for i in range(700_001)), compresslevel=0, mtime=0)
OTHER = gzip.compress(bytes(i * i % 241 for i in range(650_000)), compresslevel=0, mtime=0)


class Asked(NamedTuple):
    """What one request asked for."""

    path: str
    range: str | None
    if_range: str | None
    encoding: str | None


@dataclass(frozen=True)
class Step:
    """How one request is answered; by default properly."""

    status: int = 200
    content: bytes = CONTENT
    tag: str = '"one"'
    dated: str = ""
    ranges: bool = True
    heeds_if_range: bool = True
    send: int | None = None  # bytes of the body until ...
    stall: bool = False  # ... nothing more comes; else the connection is cut
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False
    unmeasured: bool = False  # as in HTTP/1.0: no length, the end of the connection is the end of the file
    after: threading.Event | None = None  # answered only when this is set, or after ten seconds


@dataclass
class Site:
    """A server with a list of things to do; when it is used up, the last one is done again and again."""

    url: str = ""
    steps: deque[Step] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def step(self) -> Step:
        return self.steps.popleft() if len(self.steps) > 1 else self.steps[0] if self.steps else Step()


@pytest.fixture
def site() -> Iterator[Site]:
    this = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            get = self.headers.get
            this.asked.append(Asked(self.path, get("Range"), get("If-Range"), get("Accept-Encoding")))
            step = this.step()
            if step.after is not None:
                step.after.wait(10)
            status, body = step.status, step.content
            first = int((get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            same = get("If-Range") in (None, step.tag, step.dated) or not step.heeds_if_range
            partial = status == 200 and first > 0 and step.ranges and same
            if partial:
                status, body = 206, body[first:]
            self.send_response(status)
            if partial:
                self.send_header("Content-Range", f"bytes {first}-{len(step.content) - 1}/{len(step.content)}")
            if step.tag:
                self.send_header("ETag", step.tag)
            if step.dated:
                self.send_header("Last-Modified", step.dated)
            for name, value in step.headers:
                self.send_header(name, value)
            if step.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
            elif step.unmeasured:
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if step.send is None else body[: step.send])
            if step.stall:
                self.wfile.flush()
                this.closing.wait(10)
            if step.send is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Stay silent: the clients hang up on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    this.url = f"http://127.0.0.1:{server.server_port}/"
    yield this
    this.closing.set()
    server.shutdown()
    server.server_close()


def source(site: Site, content: bytes | None = None) -> Source:
    known = "" if content is None else sha256(content).hexdigest()
    return Source("raw.gz", site.url + "raw.gz", None if content is None else len(content), known)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.endswith(".lock")}


def test_a_whole_file_comes_with_one_question_and_its_sha256_is_recorded(site: Site, tmp_path: Path) -> None:
    said: list[str] = []
    file = download(source(site), tmp_path / "new", say=said.append, patience=QUICK)
    assert file.read_bytes() == CONTENT
    assert site.asked == [Asked("/raw.gz", None, None, "identity")]
    assert left(tmp_path / "new") == {"raw.gz", "raw.gz.sha256"}
    assert (tmp_path / "new" / "raw.gz.sha256").read_text() == f"{digest(CONTENT)}  raw.gz\n"
    assert "none is published" in said[-1]


@pytest.mark.parametrize("stall", [False, True], ids=["cut", "stalled"])
def test_a_broken_transfer_goes_on_where_it_stopped(site: Site, tmp_path: Path, stall: bool) -> None:
    site.steps.extend([Step(send=300_000, stall=stall), Step(send=200_000, stall=stall), Step()])
    said: list[str] = []
    file = download(source(site, CONTENT), tmp_path, say=said.append, patience=IMPATIENT if stall else QUICK)
    assert file.read_bytes() == CONTENT
    ranges = [(a.range, a.if_range) for a in site.asked]
    if stall:  # what had come of an unfinished chunk may be asked for again
        starts = [int((r or "bytes=0-")[6:-1]) for r, _ in ranges]
        assert starts == sorted(starts)
        assert starts[0] == 0 < starts[-1] <= 500_000
        assert "no data came for a while" in said[0]
    else:
        assert ranges == [(None, None), ("bytes=300000-", '"one"'), ("bytes=500000-", '"one"')]
        assert "the connection was cut" in said[0]
    assert left(tmp_path) == {"raw.gz", "raw.gz.sha256"}


def test_without_an_etag_the_date_of_the_file_says_whether_it_is_the_same(site: Site, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    site.steps.extend([Step(tag='W/"weak"', dated=date, send=300_000), Step(tag='W/"weak"', dated=date)])
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert site.asked[1].if_range == date


def test_a_server_without_etag_and_date_is_asked_for_everything_again(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(tag="", send=300_000), Step(tag="")])
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert [a.range for a in site.asked] == [None, None]


def test_a_server_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(send=300_000, ranges=False), Step(ranges=False)])
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert site.asked[1].range == "bytes=300000-"


@pytest.mark.parametrize("heeds", [True, False], ids=["answers 200", "answers 206 all the same"])
def test_a_file_that_changed_between_two_tries_is_never_mixed(site: Site, tmp_path: Path, heeds: bool) -> None:
    changed = Step(content=OTHER, tag='"two"', heeds_if_range=heeds)
    site.steps.extend([Step(send=300_000), changed])
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == OTHER


def test_a_part_that_the_server_cannot_continue_is_dropped(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(send=300_000), Step(status=416), Step()])
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert [a.range for a in site.asked] == [None, "bytes=300000-", None]


def test_an_interrupted_run_is_continued_by_the_next_one(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(send=300_000), Step(status=500)])
    with pytest.raises(DataError, match=r"given up after 5 tries .* 500 .* 300,000 bytes are kept"):
        download(source(site), tmp_path, patience=QUICK)
    assert left(tmp_path) == {"raw.gz.part", "raw.gz.part.json"}
    assert len(site.asked) == 6  # the first try brought something, so it does not count
    site.steps.clear()
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert site.asked[-1].range == "bytes=300000-"


def test_a_part_from_another_address_is_not_continued(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(send=300_000), Step(status=404)])
    with pytest.raises(DataError):
        download(source(site), tmp_path, patience=QUICK)
    site.steps.clear()
    assert download(source(site), tmp_path, site.url + "mirror/raw.gz", patience=QUICK).read_bytes() == CONTENT
    assert site.asked[-1] == Asked("/mirror/raw.gz", None, None, "identity")


def test_a_whole_part_needs_no_further_question(site: Site, tmp_path: Path) -> None:
    (tmp_path / "raw.gz.part").write_bytes(CONTENT)
    about = f'{{"url": "{site.url}raw.gz", "tag": "\\"one\\"", "total": {len(CONTENT)}}}'
    (tmp_path / "raw.gz.part.json").write_text(about)
    assert download(source(site, CONTENT), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert site.asked == []


def test_only_tries_without_new_bytes_of_the_servers_file_are_counted(site: Site, tmp_path: Path) -> None:
    """What is left of the old file is longer than what the first tries bring of the new one."""
    (tmp_path / "raw.gz.part").write_bytes(OTHER[:300_000])
    about = f'{{"url": "{site.url}raw.gz", "tag": "\\"one\\"", "total": {len(OTHER)}}}'
    (tmp_path / "raw.gz.part.json").write_text(about)
    site.steps.append(Step(tag='"two"', send=50_000))
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert len(site.asked) == 15  # 50,000 bytes each


@pytest.mark.parametrize(
    "step",
    [Step(send=300_000, ranges=False), Step(tag="", send=300_000)],
    ids=["no ranges", "neither ETag nor date"],
)
def test_a_server_that_always_cuts_at_the_same_place_is_given_up(site: Site, tmp_path: Path, step: Step) -> None:
    site.steps.append(step)
    with pytest.raises(DataError, match="given up after 5 tries") as caught:
        download(source(site), tmp_path, patience=QUICK)
    assert len(site.asked) == 6
    kept = "300,000 bytes are kept, run the command again to go on"
    assert (kept if step.tag else "run the command again to begin anew") in str(caught.value)
    assert (kept in str(caught.value)) == bool(step.tag)


def test_a_server_that_sends_another_file_each_time_is_given_up(site: Site, tmp_path: Path) -> None:
    site.steps.extend(Step(tag=f'"{n}"', send=50_000 + n) for n in range(20))
    with pytest.raises(DataError, match="given up after 5 tries"):
        download(source(site), tmp_path, patience=QUICK)
    assert len(site.asked) == 6


def test_the_wrong_file_is_removed_and_the_message_has_both_sums(site: Site, tmp_path: Path) -> None:
    site.steps.append(Step(content=OTHER + bytes(len(CONTENT) - len(OTHER))))  # the right length
    wrong = digest(OTHER + bytes(len(CONTENT) - len(OTHER)))
    with pytest.raises(DataError, match=f"was removed: sha256 {wrong}, expected {digest(CONTENT)}"):
        download(source(site, CONTENT), tmp_path, patience=QUICK)
    assert left(tmp_path) == set()
    site.steps[0] = Step(content=OTHER)
    with pytest.raises(DataError, match=f"{len(OTHER):,} bytes, expected {len(CONTENT):,}"):
        download(source(site, CONTENT), tmp_path, patience=QUICK)


def test_without_a_published_sum_the_first_download_is_the_measure(site: Site, tmp_path: Path) -> None:
    download(source(site), tmp_path, patience=QUICK).unlink()
    site.steps.append(Step(content=OTHER, tag='"two"'))
    with pytest.raises(DataError, match=r"the first download had .*raw\.gz\.sha256; remove that file"):
        download(source(site), tmp_path, patience=QUICK)
    assert left(tmp_path) == {"raw.gz.sha256"}


def test_a_packed_file_that_was_cut_never_becomes_the_measure(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(unmeasured=True, send=1000), Step()])
    with pytest.raises(DataError, match="was removed: not a whole gzip file"):
        download(source(site), tmp_path, patience=QUICK)
    assert left(tmp_path) == set()
    for wrong, fault in (
        (CONTENT[:1000], "not a whole gzip file"),
        (b"<html>", "not a whole gzip file"),
        (b"", "there is nothing in it"),
    ):
        (tmp_path / "raw.gz").write_bytes(wrong)
        with pytest.raises(DataError, match=rf"raw\.gz: {fault}"):
            download(source(site), tmp_path, patience=QUICK)
        assert left(tmp_path) == {"raw.gz"}
    (tmp_path / "raw.gz").unlink()
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    (tmp_path / "raw.gz.sha256").unlink()
    download(source(site), tmp_path, patience=QUICK)
    assert (tmp_path / "raw.gz.sha256").read_text().startswith(digest(CONTENT))


def test_a_packed_file_shows_its_own_end_where_the_server_does_not(site: Site, tmp_path: Path) -> None:
    site.steps.append(Step(unmeasured=True))
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_plain_file_without_an_end_is_not_taken(site: Site, tmp_path: Path) -> None:
    site.steps.append(Step(unmeasured=True))
    with pytest.raises(DataError, match="the server does not say where the file ends"):
        download(Source("raw.csv", site.url + "raw.csv"), tmp_path, patience=QUICK)
    assert left(tmp_path) == set()
    known = Source("raw.csv", site.url + "raw.csv", len(CONTENT), digest(CONTENT))
    assert download(known, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_fetched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "raw.gz").write_bytes(CONTENT)
    download(source(site, CONTENT), tmp_path, patience=QUICK)
    (tmp_path / "raw.gz").write_bytes(OTHER)
    with pytest.raises(DataError, match="remove it and run the command again"):
        download(source(site, CONTENT), tmp_path, patience=QUICK)
    assert (tmp_path / "raw.gz").read_bytes() == OTHER
    assert site.asked == []


def test_a_missing_file_is_said_at_once(site: Site, tmp_path: Path) -> None:
    site.steps.append(Step(status=404))
    with pytest.raises(DataError, match=r"raw\.gz: the server answers 404 Not Found; name a mirror with --url"):
        download(source(site), tmp_path, patience=QUICK)
    assert len(site.asked) == 1


def test_a_server_that_recovers_is_waited_for(site: Site, tmp_path: Path) -> None:
    busy = Step(status=503, headers=(("Retry-After", "120"),))
    site.steps.extend([Step(status=500), busy, Step()])
    said: list[str] = []
    began = time.perf_counter()
    assert download(source(site), tmp_path, say=said.append, patience=QUICK).read_bytes() == CONTENT
    assert time.perf_counter() - began < 60  # two minutes were asked for; longest_pause_s holds
    assert ["500" in said[0], "503" in said[1]] == [True, True]


def test_a_dead_server_is_given_up_after_five_tries(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as unused:
        port = unused.server_port
    with pytest.raises(DataError, match="given up after 5 tries without new data: no connection"):
        download(Source("raw.gz", f"http://127.0.0.1:{port}/raw.gz"), tmp_path, patience=QUICK)


def test_redirects_are_followed_to_safe_addresses_only(site: Site, tmp_path: Path) -> None:
    site.steps.extend([Step(status=302, headers=(("Location", "/moved/raw.gz"),)), Step()])
    assert download(source(site), tmp_path / "a", patience=QUICK).read_bytes() == CONTENT
    assert [a.path for a in site.asked] == ["/raw.gz", "/moved/raw.gz"]
    for unsafe in ("http://example.org/raw.gz", "file:///etc/hostname", "ftp://example.org/raw.gz"):
        site.steps.clear()
        site.steps.append(Step(status=301, headers=(("Location", unsafe),)))
        with pytest.raises(DataError, match=f"sends on to '{unsafe}', which is not an https address"):
            download(source(site), tmp_path / "b", patience=QUICK)
    site.steps[0] = Step(status=302, headers=(("Location", "https://[bad/x"),))
    with pytest.raises(DataError, match=r"raw\.gz: the server sends on to an address that is none: Invalid IPv6 URL"):
        download(source(site), tmp_path / "b", patience=QUICK)
    site.steps[0] = Step(status=307, headers=(("Location", "/raw.gz"),))
    with pytest.raises(DataError, match="more than 5 redirects"):
        download(source(site), tmp_path / "b", patience=QUICK)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/raw.gz", "file:///etc/hostname", "https:///raw.gz", "raw.gz", "https://[bad/raw.gz"],
)
def test_only_https_addresses_are_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not an https address"):
        download(Source("raw.gz", url), tmp_path, patience=QUICK)


def test_bytes_are_stored_as_they_come_whatever_the_encoding_says(site: Site, tmp_path: Path) -> None:
    site.steps.append(Step(headers=(("Content-Encoding", "gzip"),)))
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_file_of_unknown_length_comes_whole(site: Site, tmp_path: Path) -> None:
    """A last chunk that is not there is a cut like any other."""
    site.steps.extend([Step(chunked=True, send=300_000), Step(chunked=True)])
    unknown = Source("raw.csv", site.url + "raw.csv")
    assert download(unknown, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_the_second_of_two_downloads_waits_and_finds_the_file(site: Site, tmp_path: Path) -> None:
    waiting = threading.Event()
    site.steps.append(Step(after=waiting))
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "another download of this file is under way" in text:
            waiting.set()

    calls = [threading.Thread(target=download, args=(source(site), tmp_path, "", say)) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert len(site.asked) == 1
    assert (tmp_path / "raw.gz").read_bytes() == CONTENT
    assert waiting.is_set()
    assert "already there" in said[-1]


def test_too_little_space_is_said_before_anything_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(DataError, match=f"{len(CONTENT):,} more bytes are to come and 1,000 are free"):
        download(source(site), tmp_path, patience=QUICK)
    assert left(tmp_path) == set()


class Full(io.FileIO):
    """A file on a disk that has room for 300,000 more bytes."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > 300_000:
            super().write(content[: 300_000 - self.tell()])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


def test_a_disk_that_fills_up_on_the_way_is_said_and_the_next_run_goes_on(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.open

    def open_(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Full(path, mode) if mode == "ab" else plain(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        with pytest.raises(DataError, match="no space is left; free some and run the command again"):
            download(source(site), tmp_path, patience=QUICK)
    assert left(tmp_path) == {"raw.gz.part", "raw.gz.part.json"}
    assert download(source(site), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert site.asked[-1].range == "bytes=300000-"


def test_a_sum_that_cannot_be_written_leaves_nothing_behind(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if target.suffix == ".sha256":
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(DataError, match="no space is left"):
        download(source(site), tmp_path, patience=QUICK)
    assert left(tmp_path) == {"raw.gz"}


def test_a_folder_that_cannot_be_made_is_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        download(source(site), tmp_path / "file" / "folder", patience=QUICK)
