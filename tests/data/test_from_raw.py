"""From original files to a data set's folder: small files by hand, then the real data sets backwards and forwards."""

import gzip
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from graphlib import TopologicalSorter
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from rlrecbench.cli import _main as run
from rlrecbench.data.atomic_files import made_here, table
from rlrecbench.data.datasets import spec_of, writable_dir
from rlrecbench.data.from_raw import Job, make, window_files
from rlrecbench.data.prepare import DataOptions, prepare
from rlrecbench.data.raw_released import letter_items, sequences_of
from rlrecbench.data.raw_reviews import k_core
from rlrecbench.data.raw_windows import Window, WindowSettings
from rlrecbench.data.readers import read_atomic, read_bytes
from rlrecbench.data.sources import Kind, Source, Sources
from rlrecbench.data.statistics import info, verify
from rlrecbench.errors import ConfigError, DataError

Row = dict[str, object]
DAY = 86400
OCTOBER_2017 = 1506816000


def packed(file: Path, rows: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def reviews(users: int, items: int, start: int = OCTOBER_2017) -> list[Row]:
    """Every user with every item, day by day."""
    return [
        {"reviewerID": f"A{u}", "asin": f"B{(i + u) % items}", "unixReviewTime": start + i * DAY, "overall": 5.0}
        for u in range(users)
        for i in range(items)
    ]


def job(name: str, out: Path, kind: Kind = "raw", window: WindowSettings | None = None) -> Job:
    return Job(name, spec_of(name, []).sources, kind, out, window)


@pytest.fixture
def raw_beauty(tmp_path: Path) -> Path:
    raw = tmp_path / "raw" / "beauty"
    packed(raw / "reviews_Beauty_5.json.gz", reviews(6, 5))
    text = "".join(f"{{'asin': 'B{i}', 'title': 'Soap {i}', 'categories': [['Beauty', 'Bath']]}}\n" for i in range(4))
    (raw / "meta_Beauty.json").write_text(text)  # unpacked by hand: found all the same
    return raw


def test_beauty_from_raw_is_what_the_readers_load(raw_beauty: Path, tmp_path: Path) -> None:
    said: list[str] = []
    sources = spec_of("beauty", []).sources
    folder = make(Job("beauty", sources, "raw", tmp_path / "out", say=said.append), [raw_beauty])
    assert {p.name for p in folder.iterdir()} == {
        "beauty.inter.gz", "beauty.item.gz", "beauty.user.gz", "provenance.json",
    }  # fmt: skip
    data = prepare("beauty", DataOptions(), [tmp_path / "out"])
    assert data.items["title"].tolist() == ["Soap 0", "Soap 1", "Soap 2", "Soap 3", "4"]  # B4 has no metadata
    assert [len(part) for part in (data.train, data.valid, data.test)] == [12, 6, 6]
    assert data.test.history(1).tolist() == [1, 2, 3, 4]  # A1: B1 B2 B3 B4, then B0
    assert data.test.target[1] == 0
    figures = info("beauty", [tmp_path / "out"])["statistics"]
    assert [figures[key]["computed"] for key in ("users", "items", "interactions")] == [6, 5, 30]
    assert read_bytes(folder / "beauty.item").decode().splitlines()[1] == "0\tB0\tSoap 0\t\tBath\t"
    assert read_bytes(folder / "beauty.user").decode().splitlines()[1:3] == ["0\tA0", "1\tA1"]
    assert any("30 reviews in" in text for text in said)


def test_the_provenance_names_raw_files_settings_and_sums(raw_beauty: Path, tmp_path: Path) -> None:
    folder = make(job("beauty", tmp_path / "out"), [raw_beauty])
    about = json.loads((folder / "provenance.json").read_text())
    raw = raw_beauty / "reviews_Beauty_5.json.gz"
    assert about["raw"][0]["file"] == raw.name
    assert about["raw"][0]["sha256"] == sha256(raw.read_bytes()).hexdigest()
    assert about["settings"] == {"k": 5, "first_of_repeats": False, "needs_metadata": False}
    assert about["rows"] == {"beauty.inter": 30, "beauty.item": 5, "beauty.user": 6}
    for file, digest in about["files"].items():
        assert sha256((folder / file).read_bytes()).hexdigest() == digest
    assert str(tmp_path) not in (folder / "provenance.json").read_text()


def test_tabs_line_ends_and_half_characters_do_not_break_a_table() -> None:
    rows = [("a\tb", "x\r\n\ty"), (1, "é\u2028\ud800")]
    assert table(("u:token", "t:token_seq"), rows).decode() == "u:token\tt:token_seq\na b\tx y\n1\té\u2028?\n"


def test_the_sums_of_a_folder_made_here_are_known(raw_beauty: Path, tmp_path: Path) -> None:
    folder = make(job("beauty", tmp_path / "out"), [raw_beauty])
    assert made_here(folder) == {f.name: sha256(f.read_bytes()).hexdigest() for f in folder.glob("*.gz")}
    assert made_here(raw_beauty) == {}
    (folder / "provenance.json").write_text("[]")
    with pytest.raises(DataError, match="not the provenance of a data set"):
        made_here(folder)


def test_verify_holds_a_folder_made_here_against_what_was_made(raw_beauty: Path, tmp_path: Path) -> None:
    """Its six users are not the released 22,363, which is said of the figures and not of the files."""
    folder = make(job("beauty", tmp_path / "out"), [raw_beauty])

    def files() -> dict[str, str]:
        return {v.file: v.detail for v in verify("beauty", [tmp_path / "out"]) if v.file.endswith(".gz")}

    assert files() == dict.fromkeys(["beauty.inter.gz", "beauty.item.gz", "beauty.user.gz"], "as prepared")
    verdicts = {v.file: v for v in verify("beauty", [tmp_path / "out"])}
    assert verdicts["users"] == ("users", False, "computed 6, published 22363")
    (folder / "beauty.item.gz").write_bytes(
        gzip.compress(read_bytes(folder / "beauty.item") + b"9\tB9\tOil\t\tBath\t\n")
    )
    (folder / "beauty.user.gz").unlink()
    changed = "missing, or changed since it was prepared"
    assert files() == {"beauty.inter.gz": "as prepared", "beauty.item.gz": changed, "beauty.user.gz": changed}


@pytest.mark.parametrize("broken", ["[]", '{"files": {"beauty.inter.gz": "0"}}'], ids=["unreadable", "of other files"])
def test_a_broken_provenance_does_not_hold_and_preparing_again_repairs_it(
    raw_beauty: Path, tmp_path: Path, broken: str
) -> None:
    folder = make(job("beauty", tmp_path / "out"), [raw_beauty])
    about = (folder / "provenance.json").read_text()
    (folder / "provenance.json").write_text(broken)
    verdicts = verify("beauty", [tmp_path / "out"])
    assert [v.ok for v in verdicts[:1]] == [False]
    assert run(["data", "verify", "beauty", "--data-dir", str(tmp_path / "out")]) == 4
    make(job("beauty", tmp_path / "out"), [raw_beauty])
    assert (folder / "provenance.json").read_text() == about
    assert {p.name for p in folder.iterdir()} == {*made_here(folder), "provenance.json"}
    (folder / "provenance.json").unlink()  # the files may be another's
    make(job("beauty", tmp_path / "out"), [raw_beauty])
    assert made_here(folder) == {}


def test_the_same_files_give_the_same_bytes_and_another_set_is_never_overwritten(
    raw_beauty: Path, tmp_path: Path
) -> None:
    one, two = (make(job("beauty", tmp_path / out), [raw_beauty]) for out in ("one", "two"))
    contents = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in (one, two)]
    assert contents[0] == contents[1]
    make(job("beauty", tmp_path / "one"), [raw_beauty])  # the same data: nothing to do
    items = tmp_path / "two" / "beauty" / "beauty.item.gz"
    items.write_bytes(gzip.compress(gzip.decompress(items.read_bytes()), 1))  # as another zlib packs them
    there = items.read_bytes()
    make(job("beauty", tmp_path / "two"), [raw_beauty])
    assert items.read_bytes() == there
    assert made_here(two)["beauty.item.gz"] == sha256(there).hexdigest()
    packed(raw_beauty / "reviews_Beauty_5.json.gz", reviews(7, 5))
    with pytest.raises(DataError, match="is there and holds something else; nothing was changed"):
        make(job("beauty", tmp_path / "one"), [raw_beauty])
    assert {p.name: p.read_bytes() for p in one.iterdir()} == contents[0]
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["beauty"]  # nothing temporary is left


def test_the_file_of_interactions_may_have_any_name(raw_beauty: Path, tmp_path: Path) -> None:
    mine = (raw_beauty / "reviews_Beauty_5.json.gz").rename(raw_beauty / "mine.json")
    assert make(job("beauty", tmp_path / "out"), [mine]).is_dir()


def test_a_raw_file_that_is_not_the_recorded_one_is_refused(raw_beauty: Path, tmp_path: Path) -> None:
    (raw_beauty / "meta_Beauty.json.sha256").write_text("0" * 64 + "  meta_Beauty.json\n")
    with pytest.raises(DataError, match=r"meta_Beauty\.json: sha256 .*, expected 0{64}"):
        make(job("beauty", tmp_path / "out"), [raw_beauty])


def test_yelp_from_raw_uses_names_and_categories(tmp_path: Path) -> None:
    def line(u: int, i: int, date: str) -> Row:
        return {"user_id": f"u{u}", "business_id": f"b{i}", "stars": 1.0, "date": date}

    rows = [line(u, i, f"2019-03-{i + 1:02} 10:00:0{u}") for u in range(5) for i in range(5)]
    rows += [line(u, 0, "2019-12-31 08:00:00") for u in range(5)]  # after the last second of S3-Rec's year
    packed(tmp_path / "yelp_academic_dataset_review.json", rows)
    businesses: list[Row] = [{"business_id": f"b{i}", "name": "Chain", "categories": "Pizza, Food"} for i in range(5)]
    packed(tmp_path / "yelp_academic_dataset_business.json", businesses)
    make(job("yelp", tmp_path / "out"), [tmp_path])
    data = prepare("yelp", DataOptions(), [tmp_path / "out"])
    assert (len(data.train), len(data.test), data.n_items) == (10, 5, 5)
    assert data.items["text"].tolist() == ["Chain Pizza, Food"] * 5


def test_instruments_from_raw_needs_metadata_and_first_interactions(tmp_path: Path) -> None:
    rows = [f"B{i},A{u},5.0,{100 + i}" for u in range(5) for i in range(6)]
    rows += ["B0,A0,1.0,900"]  # a repeat: dropped
    (tmp_path / "Musical_Instruments.csv").write_text("\n".join(rows) + "\n")
    meta: list[Row] = [{"asin": f"B{i}", "title": f"Lute {i}", "brand": "X", "category": ["Lutes"]} for i in range(5)]
    packed(tmp_path / "meta_Musical_Instruments.json.gz", meta)  # B5 has none: dropped
    make(job("instruments", tmp_path / "out"), [tmp_path])
    data = prepare("instruments", DataOptions(), [tmp_path / "out"])
    assert (data.n_items, len(data.users), len(data.train), data.items["title"][0]) == (5, 5, 10, "Lute 0.")


def test_games_from_raw_have_three_parts_by_time(tmp_path: Path) -> None:
    packed(tmp_path / "Video_Games.json.gz", reviews(6, 5))
    titles = [f'Game "{i}"' for i in range(5)]
    packed(tmp_path / "meta_Video_Games.json.gz", [{"asin": f"B{i}", "title": t} for i, t in enumerate(titles)])
    make(job("video_games", tmp_path / "out", window=WindowSettings(min_items=5, history=3)), [tmp_path])
    data = prepare("video_games", DataOptions(), [tmp_path / "out"])
    # 30 interactions, 24 targets: int(19.2) = 19, int(21.6) = 21.
    assert [len(part) for part in (data.train, data.valid, data.test)] == [19, 2, 3]
    assert sorted(data.items["title"]) == [f'Game "{i}' for i in range(5)]
    assert data.test.lengths.tolist() == [3, 3, 3]
    asin = read_atomic(tmp_path / "out" / "video_games" / "video_games.item", ["asin"])["asin"]
    last = [*data.test.history(2).tolist(), int(data.test.target[2])]
    assert [asin[i] for i in last] == ["B1", "B2", "B3", "B4"]  # A5 began with B0; the history has three items
    about = json.loads((tmp_path / "out" / "video_games" / "provenance.json").read_text())
    assert (about["settings"]["year"], about["settings"]["time_zone"]) == (2017, "UTC")


@pytest.mark.parametrize("packed_", [False, True], ids=["plain", "packed by hand"])
def test_released_files_are_read_plain_and_packed(tmp_path: Path, packed_: bool) -> None:
    files = {"Toy.inter.json": '{"0": [0, 1, 2, 1], "1": [2, 2, 0, 1]}', "Toy.index.json": '{"0": ["<a_1>"]}'}
    files["Toy.item.json"] = '{"0": {"title": "Sal\'s", "description": "Pizza"}}'
    for file, text in files.items():
        content = gzip.compress(text.encode()) if packed_ else text.encode()
        (tmp_path / f"{file}{'.gz' * packed_}").write_bytes(content)
    folder = make(Job("toy", Sources(released=tuple(map(Source, files))), "released", tmp_path / "out"), [tmp_path])
    assert read_bytes(folder / "toy.inter").decode().splitlines()[1:5] == ["0\t0\t0", "0\t1\t1", "0\t2\t2", "0\t1\t3"]
    assert read_bytes(folder / "toy.item").decode().splitlines()[1:] == ["0\tSal's\tPizza"]
    assert json.loads(read_bytes(folder / "toy.letter_index.json")) == {"0": ["<a_1>"]}


def test_a_released_file_that_is_cut_is_named(tmp_path: Path) -> None:
    (tmp_path / "Yelp.txt.gz").write_bytes(gzip.compress(b"1 1 2\n" * 99)[:-9])
    with pytest.raises(DataError, match=r"Yelp\.txt\.gz: cannot be read as UTF-8 text, plain or gzip"):
        sequences_of(tmp_path / "Yelp.txt.gz")


@pytest.mark.parametrize("option", ["--time-zone", "--out"])
def test_what_can_be_known_before_reading_is_said_before_reading(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(tmp_path / "raw" / "video_games" / "Video_Games.json.gz", reviews(6, 5))
    packed(tmp_path / "raw" / "video_games" / "meta_Video_Games.json.gz", [])
    monkeypatch.setattr("rlrecbench.data.from_raw.sha256_of", lambda path: pytest.fail(f"{path} was read"))
    (tmp_path / "file").write_text("")
    given = "Mars/Base" if option == "--time-zone" else str(tmp_path / "file" / "out")
    assert run(["data", "prepare", "video_games", option, given, "--data-dir", str(tmp_path)]) == 2
    said = {"--time-zone": "'Mars/Base' is not a known time zone", "--out": "cannot be written: Not a directory"}
    assert said[option] in capsys.readouterr().err


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"reviews_Beauty_5\.json\.gz is missing: .*data download beauty' fetches it"):
        make(job("beauty", tmp_path / "out"), [tmp_path])
    with pytest.raises(DataError, match=r"Yelp gives its Open Dataset only to those .* --raw FOLDER"):
        make(job("yelp", tmp_path / "out"), [tmp_path])
    with pytest.raises(ConfigError, match="ml-100k is not made from raw files"):
        make(job("ml-100k", tmp_path / "out"), [tmp_path])
    with pytest.raises(ConfigError, match="has no released files"):
        make(job("video_games", tmp_path / "out", "released"), [tmp_path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "numbered by first appearance"),
        ("1 1 2\n3 1\n", "numbered by first appearance"),
        ("1 1 x\n", "line 1: must be a user and items"),
        ("\n", "line 1: must be a user and items"),
        ("1 1 2\n2 1 2\n1 1 2\n", "line 3: user 1 stands twice"),
        ("1 1 2\n2\n", "1 users have no items, the first is 1"),
        ("", "there is no user in it"),
    ],
)
def test_a_released_text_that_is_not_numbered_as_expected_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "Yelp.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        sequences_of(tmp_path / "Yelp.txt")


def test_released_json_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "x.item.json"
    file.write_text('{"0": {"title": " Sal\'s\\t", "description": "Pizza"}}')
    assert letter_items(file)["0"].title == "Sal's"
    file.write_text('{"0": {"title": "x"}}')
    with pytest.raises(DataError, match="every item must have a title and a description"):
        letter_items(file)
    file.write_text('{"0": [1, "2"]}')
    with pytest.raises(DataError, match="every user must have a list of item numbers"):
        sequences_of(file)
    for text, message in (
        ("[]", "must be one JSON object"),
        ("{}", "there is no user in it"),
        ('{"0": [0, 1], "0": [0, 1]}', "'0' stands twice"),
        ('{"0": [0, 1], "1": []}', "1 users have no items, the first is 1"),
        ('{"0": [' + "9" * 5000 + "]}", "not valid JSON"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            sequences_of(file)


def test_new_data_go_to_the_first_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RLRECBENCH_DATA", os.pathsep.join(str(tmp_path / n) for n in ("none", "one", "two")))
    assert writable_dir() == tmp_path / "one"
    assert writable_dir(Path("given")) == Path("given")
    monkeypatch.setattr(os, "access", lambda path, _: path == tmp_path / "two")
    assert writable_dir() == tmp_path / "two"
    monkeypatch.delenv("RLRECBENCH_DATA")
    assert writable_dir() == tmp_path / "cache" / "rlrecbench" / "data"


def test_the_command_line_prepares_what_lies_in_the_raw_folder(
    raw_beauty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "prepare", "beauty", "--data-dir", str(tmp_path)]) == 0
    assert (tmp_path / "beauty" / "beauty.inter.gz").is_file()
    assert "ready (30 rows in beauty.inter" in capsys.readouterr().err
    assert run(["data", "info", "beauty", "--data-dir", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "beuty"], "did you mean 'beauty'?"),
        (["prepare", "beauty", "--time-zone", "UTC"], "--time-zone is for data that are split by time"),
        (["prepare", "video_games", "--released"], "has no released files; leave --released out"),
        (["download", "ml-100k"], "has no raw files"),
        (["download", "yelp"], "Yelp gives its Open Dataset only to those who accept its terms"),
        (["download", "beauty", "--url", "http://example.org/"], "is not an https address"),
        (["download", "beauty", "--url", "https://[bad/"], "is not an https address"),
        (["download", "beauty", "--url", "https://x.org/other.gz"], "--url ends in other.gz, the files of beauty are"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", *arguments, "--data-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_list_names_the_original_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "list", "--json"]) == 0
    rows = {row["name"]: row["sources"] for row in json.loads(capsys.readouterr().out)}
    assert rows["yelp"]["raw"][0] == {
        "file": "yelp_academic_dataset_review.json", "url": "", "size": None, "sha256": "",
    }  # fmt: skip
    assert all(len(file["sha256"]) == 64 for row in rows.values() for file in row["released"])
    assert all(file["url"].startswith("https://") for row in rows.values() for file in row["released"])
    assert run(["data", "list"]) == 0
    assert "raw: https://snap.stanford.edu/" in capsys.readouterr().out


# Real data, where it is there.


def sequences(folder: Path, name: str) -> dict[str, list[int]]:
    rows = read_atomic(folder / name / f"{name}.inter", ["user_id", "item_id"])
    found: dict[str, list[int]] = {}
    for user, item in zip(rows["user_id"], rows["item_id"], strict=True):
        found.setdefault(user, []).append(int(item))
    return found


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder: its address and where it is."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("name", "title"), [("beauty", "Beauty"), ("instruments", "Instruments")])
def test_letters_files_come_checked_and_give_the_data_sets_bytes(
    name: str, title: str, mirror: tuple[str, Path], shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """The files are rebuilt from the data set; their sha256 is the one recorded of the originals."""
    shared, (url, folder) = shared_data(name), mirror
    (folder / f"{title}.inter.json").write_text(json.dumps(sequences(shared, name), indent=4))
    index = json.loads(read_bytes(shared / name / f"{name}.letter_index.json"))
    (folder / f"{title}.index.json").write_text(json.dumps(index))
    data = str(tmp_path / "data")
    assert run(["data", "download", name, "--released", "--url", url, "--data-dir", data]) == 0
    assert run(["data", "prepare", name, "--released", "--data-dir", data]) == 0
    made = tmp_path / "data" / name
    assert (made / f"{name}.inter.gz").read_bytes() == (shared / name / f"{name}.inter.gz").read_bytes()
    assert json.loads(read_bytes(made / f"{name}.letter_index.json")) == index


def test_s3_recs_yelp_gives_the_data_sets_sequences(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    found = sequences(shared_data("yelp"), "yelp")
    text = "".join(f"{int(u) + 1} {' '.join(str(i + 1) for i in items)}\n" for u, items in found.items())
    assert sha256(text.encode()).hexdigest() == spec_of("yelp", []).sources.released[0].sha256
    (tmp_path / "Yelp.txt").write_text(text)
    assert sequences_of(tmp_path / "Yelp.txt") == found


def test_beauty_made_into_raw_reviews_and_back_has_the_same_bytes(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """198,502 reviews, each user's in reversed order of the file: the pipeline sorts, counts and numbers them back."""
    shared = shared_data("beauty")
    who = read_atomic(shared / "beauty" / "beauty.user", ["reviewer_id"])["reviewer_id"]
    asin = read_atomic(shared / "beauty" / "beauty.item", ["asin"])["asin"]
    rows: list[Row] = [
        {"reviewerID": who[int(u)], "asin": asin[i], "unixReviewTime": n * DAY, "overall": 5.0}
        for u, items in sequences(shared, "beauty").items()
        for n, i in reversed(list(enumerate(items)))
    ]
    (tmp_path / "reviews_Beauty_5.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    packed(tmp_path / "meta_Beauty.json.gz", [{"asin": a, "title": "x"} for a in asin])
    made = make(job("beauty", tmp_path / "out"), [tmp_path])
    for file in ("beauty.inter.gz", "beauty.user.gz"):
        assert (made / file).read_bytes() == (shared / "beauty" / file).read_bytes()
    assert read_atomic(made / "beauty.item", ["asin"])["asin"].tolist() == asin.tolist()


@pytest.mark.parametrize("name", ["beauty", "yelp", "instruments", "cds_and_vinyl", "video_games", "movies_and_tv"])
def test_the_data_sets_are_5_cores(name: str, shared_data: Callable[[str], Path]) -> None:
    rows = read_atomic(shared_data(name) / name / f"{name}.inter", ["user_id", "item_id"])
    user, item = (pd.factorize(rows[column])[0] for column in ("user_id", "item_id"))
    assert len(k_core(user, item, 5)) == len(rows)


@pytest.mark.parametrize("name", ["cds_and_vinyl", "video_games", "movies_and_tv"])
def test_1_6_undoing_the_shuffle_puts_flowers_items_back_into_the_order_of_the_collection(
    name: str, shared_data: Callable[[str], Path]
) -> None:
    """The reviews stand roughly in the order of ASINs: so seed and shuffle are right. As released, there is none."""
    asin = read_atomic(shared_data(name) / name / f"{name}.item", ["asin"])["asin"].tolist()
    first = list(range(len(asin)))
    random.Random(WindowSettings().seed).shuffle(first)
    known = [(place, text) for place, text in zip(first, asin, strict=True) if text]
    ranks = pd.Series([text for _, text in known]).rank()
    assert spearmanr([place for place, _ in known], ranks).statistic > 0.8
    assert abs(spearmanr(range(len(known)), ranks).statistic) < 0.1


@pytest.mark.parametrize(
    "name",
    [
        "movies_and_tv",
        pytest.param("video_games", marks=pytest.mark.slow),
        pytest.param("cds_and_vinyl", marks=pytest.mark.slow),
    ],
)
def test_1_7_flowers_interactions_give_its_released_parts(name: str, shared_data: Callable[[str], Path]) -> None:
    """Validation and test row by row, training as a set of rows: there only the day is known, and not of every row.

    Users' order of first appearance is not in the data; one order that explains all rows of equal time is taken, and
    that there is one at all is part of the test.
    """
    folder = shared_data(name) / name
    columns = ["user_id", "item_id_list", "item_id", "timestamp"]
    train, valid, test = (read_atomic(folder / f"{name}.{part}.inter", columns) for part in ("train", "valid", "test"))
    exact = pd.concat([train[train["timestamp"] == valid["timestamp"].iloc[0]], valid, test], ignore_index=True)
    before: dict[str, set[str]] = {user: set() for user in train["user_id"]}
    rows = list(zip(exact["user_id"], exact["timestamp"], strict=True))
    for (one, day), (other, next_day) in pairwise(rows):
        if day == next_day and one != other:
            before.setdefault(other, set()).add(one)
    users = list(TopologicalSorter(before).static_order())
    inter = read_atomic(folder / f"{name}.inter", ["user_id", "item_id", "timestamp", "position"])
    user = inter["user_id"].map({u: n for n, u in enumerate(users)}).to_numpy(np.int64)
    order = np.lexsort((inter["position"], user))
    item, when, position = (inter[c].to_numpy(np.int64)[order] for c in ("item_id", "timestamp", "position"))
    blank = [""] * (int(item.max()) + 1)
    made = window_files(name, Window(2017, users, blank, blank, user[order].astype(np.int64), item, when, position), 10)
    for part, released, compare in (("train", train, sorted), ("valid", valid, list), ("test", test, list)):
        found = [line.split("\t")[:4] for line in made[f"{name}.{part}.inter"].decode().splitlines()[1:]]
        wanted = [[u, history, i, str(int(t))] for u, history, i, t in released.itertuples(index=False)]
        assert compare(found) == compare(wanted), part
