"""What a suite may write as model, and where its files are; the hub is a small server of the hub's own protocol."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rlrecbench.config import build, plain
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers import TitleIds, id_settings
from rlrecbench.identifiers.models import (
    check,
    check_files,
    commit_of,
    folder_of,
    parse,
    pinned,
    portable,
    resolved,
    source,
    width_of,
)

FILES = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights"}
FIRST, SECOND = "a" * 40, "b" * 40


def written(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("tiny", ("tiny", "", None)),
        ("gpt2", ("hub", "gpt2", None)),
        ("Qwen/Qwen2.5-0.5B-Instruct", ("hub", "Qwen/Qwen2.5-0.5B-Instruct", None)),
        ("Qwen/Qwen2.5-0.5B@v1", ("hub", "Qwen/Qwen2.5-0.5B", "v1")),
        ("./qwen", ("folder", "./qwen", None)),
        ("~/my models/qwen", ("folder", "~/my models/qwen", None)),
        ("/a/b@c", ("folder", "/a/b@c", None)),
    ],
)
def test_every_form_is_recognised(model: str, parts: tuple[str, str, str | None]) -> None:
    assert parse(model) == parts
    assert check(model) == model


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("Tiny", r"did you mean 'tiny'\?"),
        ("", r"a model is tiny, a hub name such as .* or a folder such as \./models/qwen"),
        ("two words", r"a model is tiny"),
    ],
)
def test_any_other_form_is_refused_in_the_suite(model: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=rf"s\.yaml: backbones\[0\]\.ids\.model: {sentence}"):
        build(TitleIds, {"model": model}, "s.yaml: backbones[0].ids")


def test_settings_come_back_from_what_a_stage_holds() -> None:
    for ids in (TitleIds(), TitleIds(model="./m", vocab=300, noun="films", max_prompt=64)):
        assert id_settings(plain(ids)) == ids


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"vocab": 257}, "vocab holds 256 bytes and 2 special tokens"),
        ({"noun": " "}, "noun is what the prompt calls the items"),
        ({"noun": "a\nb"}, "words in one line"),
        ({"max_prompt": 0}, "max_prompt: .*greater than 0"),
    ],
)
def test_settings_out_of_range_are_refused(data: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build(TitleIds, data, "ids")


def test_folder_counts_from_the_suites_folder_and_tiny_is_never_one(tmp_path: Path) -> None:
    for name in ("tiny", "org/here", "bare"):
        (tmp_path / name).mkdir(parents=True)
    expected = {
        "tiny": "tiny",
        "./tiny": f"{tmp_path}/tiny",
        "bare": "bare",
        "org/here": f"{tmp_path}/org/here",
        "org/elsewhere@v1": "org/elsewhere@v1",
        "sub/../bare/": f"{tmp_path}/bare",
    }
    assert {model: resolved(model, tmp_path) for model in expected} == expected
    assert {place: resolved(place, tmp_path / "x") for place in expected.values()} == {p: p for p in expected.values()}


def test_path_is_no_part_of_the_portable_name() -> None:
    models = {"tiny": "tiny", "org/m@v1": "org/m@v1", "./a/b": "./model", "/x/y": "./model"}
    assert {model: portable(model) for model in models} == models


def test_commit_pins_a_hub_name_and_nothing_else() -> None:
    places = {"tiny": "tiny", "org/m": f"org/m@{FIRST}", "org/m@v1": f"org/m@{FIRST}", "/snapshots/x": "/snapshots/x"}
    assert {place: pinned(place, FIRST) for place in places} == places
    assert pinned("org/m@v1", "") == "org/m@v1"


def test_only_a_folder_has_a_checksum_and_it_moves_with_the_files(tmp_path: Path) -> None:
    here = written(tmp_path / "here", FILES)
    lines = [f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(FILES.items())]
    assert source(str(here)) == sha256("".join(lines).encode()).hexdigest()
    assert source(str(here.rename(tmp_path / "there"))) == sha256("".join(lines).encode()).hexdigest()
    other = written(tmp_path / "other", {**FILES, "model.safetensors": "other"})
    assert source(str(other)) != source(str(tmp_path / "there"))
    assert [source("tiny"), source("org/m"), source(f"org/m@{FIRST}")] == ["", "", ""]


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("without", "extra", "sentence"),
    [
        ("config.json", {}, r"holds no model: config\.json is missing"),
        ("tokenizer.json", {}, r"holds no tokenizer"),
        ("model.safetensors", {}, r"must be in safetensors, and there are none;"),
        (
            "model.safetensors",
            {"pytorch_model.bin": "x"},
            r"there are only pytorch_model\.bin, a pickle, which is never",
        ),
        ("", {INDEX: '{"weight_map": {"a": "model.safetensors", "b": "2.safetensors"}}'}, r"2\.safetensors is missing"),
        ("", {INDEX: '{"weight_map": []}'}, r"index\.json: cannot be read"),
        ("", {INDEX: "["}, r"index\.json: cannot be read"),
    ],
)
def test_folder_that_holds_no_whole_model_is_refused(
    tmp_path: Path, without: str, extra: dict[str, str], sentence: str
) -> None:
    folder = written(tmp_path / "m", {k: v for k, v in FILES.items() if k != without} | extra)
    for look in (check_files, source, folder_of):
        with pytest.raises(DataError, match=sentence):
            look(str(folder))


def test_whole_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", {**FILES, INDEX: '{"weight_map": {"a": "model.safetensors"}}', "old.bin": "x"})
    assert folder_of(str(folder)) == folder
    assert commit_of(folder) == ""
    with pytest.raises(DataError, match=r"x: there is no such folder; a path is relative to the suite's folder"):
        check_files(str(tmp_path / "x"))


def test_width_is_that_of_the_logits(tmp_path: Path) -> None:
    from transformers import Gemma3Config, Qwen2Config

    Qwen2Config(vocab_size=321).save_pretrained(tmp_path / "qwen2")
    Gemma3Config(text_config={"vocab_size": 123}).save_pretrained(tmp_path / "nested")
    assert [width_of(tmp_path / "qwen2"), width_of(tmp_path / "nested")] == [321, 123]
    for about in ('{"model_type": "no-such-model"}', "{}", "[", '{"model_type": "qwen2", "vocab_size": "many"}'):
        with pytest.raises(
            DataError, match=r"config\.json: the size of the vocabulary cannot be read \(\w+: .+\); give"
        ):
            width_of(written(tmp_path / "odd", {"config.json": about}))


class Hub:
    """One repository, org/m, and the requests that came for it."""

    def __init__(self) -> None:
        self.commit = FIRST
        self.files = {**FILES, "README.md": "x", "pytorch_model.bin": "x", "onnx/config.json": "x"}
        self.got: list[str] = []  # files
        self.asked: list[str] = []  # about the repository
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                body = hub.answer(self.path.partition("?")[0])
                self.send_response(404 if body is None else 200)
                if body is None:
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                else:
                    self.send_header("X-Repo-Commit", hub.commit)
                    self.send_header("ETag", f'"{sha1(body).hexdigest()}"')  # noqa: S324 - the hub's own names
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if body is not None and self.command == "GET":
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> bytes | None:
        if path.startswith("/api/models/"):
            self.asked.append(path)
        if path.startswith("/api/models/org/m/tree/"):
            entries = [{"type": "file", "path": n, "size": len(t), "oid": "0" * 40} for n, t in self.files.items()]
            return json.dumps(entries).encode()
        if path == "/api/models/org/m" or path.startswith("/api/models/org/m/revision/"):
            return json.dumps({"id": "org/m", "sha": self.commit, "siblings": []}).encode()
        name = path.removeprefix(f"/org/m/resolve/{self.commit}/")
        if name in self.files:
            self.got.append(name)
            return self.files[name].encode()
        return None

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.stop()


CODE = """
import sys
from rlrecbench.errors import DataError
from rlrecbench.identifiers.models import commit_of, folder_of
for line in sys.stdin:
    try:
        folder = folder_of(line.strip())
        print(commit_of(folder)[:1], sorted(p.name for p in folder.iterdir()), flush=True)
    except DataError as e:
        print(e, flush=True)
"""


@pytest.fixture
def ask(hub: Hub, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Return what folder_of says of some places, in processes of their own, as a user's would be."""
    children: dict[str, subprocess.Popen[str]] = {}
    address = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server.server_port}", "HF_HOME": str(tmp_path / "hf")}
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | address
    with (tmp_path / "errors").open("w") as errors:

        def run(*places: str, offline: str = "0") -> list[str]:
            if offline not in children:
                children[offline] = subprocess.Popen(
                    [sys.executable, "-c", CODE],
                    env=env | {"HF_HUB_OFFLINE": offline},
                    cwd=tmp_path,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            child, said = children[offline], []
            assert child.stdin is not None
            assert child.stdout is not None
            for place in places:
                print(place, file=child.stdin, flush=True)
                said.append(child.stdout.readline().rstrip("\n"))
            return said

        yield run
        for child in children.values():
            child.communicate(timeout=600)
    assert "Retrying" not in (tmp_path / "errors").read_text()  # the library's word for waiting


WHOLE = str(sorted(FILES))


def test_hub_name_is_downloaded_once_and_then_found_without_a_network(hub: Hub, ask: Callable[..., list[str]]) -> None:
    assert ask("org/m") == [f"a {WHOLE}"]
    assert {*hub.got} == {*FILES}  # no pickle, no readme, no other format
    hub.got.clear()
    assert ask("org/m") == [f"a {WHOLE}"]
    assert hub.got == []
    hub.asked.clear()
    assert ask(f"org/m@{FIRST}") == [f"a {WHOLE}"]
    assert hub.asked == []
    assert ask("org/m", offline="1") == [f"a {WHOLE}"]
    hub.commit, hub.files = SECOND, {**hub.files, "model.safetensors": "newer"}
    assert ask("org/m", f"org/m@{FIRST}") == [f"b {WHOLE}", f"a {WHOLE}"]  # a commit stays what it is
    hub.stop()
    assert ask("org/m", f"org/m@{FIRST}") == [f"b {WHOLE}", f"a {WHOLE}"]


def test_missing_model_is_told_at_once_with_what_to_do(hub: Hub, ask: Callable[..., list[str]]) -> None:
    start, end = "this is no folder, is not in the cache of Hugging Face, and could not be downloaded (", "(./NAME)"
    for said in ask("org/none", "none"):
        assert start + "RepositoryNotFoundError: Client error '404 Not Found'" in said
        assert said.endswith(end)
    (said,) = ask("org/m@v2", offline="1")
    assert said.startswith("org/m@v2: " + start + "OfflineModeIsEnabled: Cannot reach")
    assert "run 'hf download org/m --revision v2' where there is a network" in said
    hub.stop()
    for said in ask("org/m", f"org/m@{SECOND}"):
        assert start + "ConnectError: [Errno" in said


def test_model_without_safe_weights_is_refused_and_its_pickle_not_downloaded(
    hub: Hub, ask: Callable[..., list[str]]
) -> None:
    del hub.files["model.safetensors"]
    (said,) = ask("org/m")
    assert f"snapshots/{FIRST}: the weights must be in safetensors, and there are none; load them elsewhere" in said
    assert "pytorch_model.bin" not in hub.got


def test_cache_that_lacks_only_what_a_model_does_not_need_is_used(
    hub: Hub, ask: Callable[..., list[str]], tmp_path: Path
) -> None:
    hub.files["merges.txt"] = "x"
    assert ask("org/m") == [f"a {sorted([*FILES, 'merges.txt'])}"]
    next((tmp_path / "hf").rglob("merges.txt")).unlink()
    hub.stop()
    assert ask("org/m") == [f"a {WHOLE}"]
    written(tmp_path, FILES)  # a model in the working folder is nothing to a hub name
    next((tmp_path / "hf").rglob("model.safetensors")).unlink()
    assert "could not be downloaded" in ask("org/m")[0]
