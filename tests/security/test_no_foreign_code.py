"""Files are data: nothing in the package unpickles, evaluates, or runs what a file holds.

The first half walks the syntax trees, the second plants bombs: a bomb that goes off writes a file.
"""

import ast
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from rlrecbench import checkpoint, registry
from rlrecbench.cli import _main
from rlrecbench.config import read_yaml
from rlrecbench.errors import BenchError
from rlrecbench.identifiers import models
from rlrecbench.identifiers.vectors import read_array
from rlrecbench.policy import language
from rlrecbench.suite import load

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "rlrecbench").rglob("*.py"), *(ROOT / "baselines").glob("*.py")])

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "pickletools"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp", "pd.read_pickle"}
CALLS |= {
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "yaml.unsafe_load_all",
    "torch.jit.load",
    "torch.hub.load",
}
LOADERS = {f"{c}.from_pretrained" for c in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM", "AutoModel")}
REQUESTS = {"get", "head", "post", "put", "request"}


def faults(tree: ast.AST) -> Iterator[str]:
    """Yield what a syntax tree does that this project never does."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"line {node.lineno}: imports {n}" for n in names if n.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {fault}" for fault in _call(node))


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
    last = name.rpartition(".")[2]
    if name in CALLS or last in ("read_pickle", "to_pickle"):
        yield f"calls {name}"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
        yield "np.load without allow_pickle=False"
    if name == "yaml.load" and given.get("Loader") not in ("_Loader", "yaml.SafeLoader"):
        yield "yaml.load without a safe loader"
    if given.get("shell", "False") != "False":
        yield "a shell"
    if last in ("extractall", "extract") and given.get("filter") != "'data'":
        yield "unpacks an archive without filter='data'"
    asks = last == "urlopen" or (name.split(".")[0] in ("requests", "session") and last in REQUESTS)
    if asks and "timeout" not in given:
        yield f"{name} without a time limit"
    if name in LOADERS and given.get("trust_remote_code") != "False":
        yield f"{name} without trust_remote_code=False"
    if given.get("trust_remote_code", "False") != "False":
        yield "trusts remote code"


def test_sources_run_nothing_that_a_file_brings() -> None:
    """What multiprocessing sends to its own processes is pickled there; that is no file, and no import here."""
    found = {str(p.relative_to(ROOT)): list(faults(ast.parse(p.read_text()))) for p in SOURCES}
    assert len(found) > 150
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import load", "import joblib.memory", "import marshal", "import shelve",
        "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)", "np.load(p, allow_pickle=True)",
        "yaml.load(t, Loader=yaml.Loader)", "yaml.unsafe_load(t)", "eval(t)", "exec(t)", "compile(t, '', 'exec')",
        "os.system(t)", "subprocess.run(t, shell=True)", "pd.read_pickle(p)", "frame.to_pickle(p)", "f.extractall(p)",
        "tempfile.mktemp()", "urlopen(u)", "requests.get(u)", "Own(p, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(p)",
    ],
)  # fmt: skip
def test_the_walk_finds_each_of_them(code: str) -> None:
    assert len(list(faults(ast.parse(code)))) == 1


class Bomb:
    """A pickle of this writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[Path]:
    """Where a bomb writes; nothing may stand there at the end."""
    path = tmp_path / "went-off"
    yield path
    assert not path.exists()


def _bombs(folder: Path, gone: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith((".pt", ".bin")):
            torch.save(Bomb(gone), folder / name)
        else:
            (folder / name).write_bytes(pickle.dumps(Bomb(gone)))


def test_a_bomb_goes_off_where_pickles_are_read(tmp_path: Path) -> None:
    """Else the tests below would prove nothing."""
    _bombs(tmp_path, tmp_path / "here", "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert (tmp_path / "here").exists()


def _model(folder: Path) -> Path:
    """A small Qwen2 with a tokenizer's file, as save_pretrained writes it."""
    language.tiny(language.TinyShape(1, 16, 2, 1, 16), 300, 0, 1, 32).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_pickles_beside_a_model_are_never_read(tmp_path: Path, gone: Path) -> None:
    folder = _model(tmp_path / "m")
    _bombs(folder, gone, "pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "adapter_model.bin")
    models.source(str(folder))
    language.pretrained(models.folder_of(str(folder)))
    (folder / "model.safetensors").unlink()
    with pytest.raises(BenchError, match=r"a pickle, which is never read"):
        models.folder_of(str(folder))
    with pytest.raises(BenchError):
        language.pretrained(folder)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "state.json", "checkpoint.pt"])
def test_pickles_in_a_work_folder_are_never_read(tmp_path: Path, gone: Path, name: str) -> None:
    folder = tmp_path / "work"
    _bombs(folder / "checkpoint-5", gone, name, "optimizer.pt")
    found = checkpoint.load(folder, torch.device("cpu"))
    assert found is None


def test_an_array_of_objects_is_refused(tmp_path: Path, gone: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([Bomb(gone)], dtype=object), allow_pickle=True)
    with pytest.raises(BenchError, match=r"x\.npy"):
        read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["recs.tsv", "recs.csv", "recs.parquet", "recs.pkl", "recs.tsv.gz"])
def test_a_pickle_instead_of_lists_is_refused(
    tmp_path: Path, gone: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    _bombs(tmp_path, gone, name)
    assert _main(["score", str(tmp_path / name), "--dataset", "ml-100k"]) == 2
    assert name in capsys.readouterr().err


def test_pickles_in_a_results_folder_are_never_read(
    tmp_path: Path, gone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    cell = folder / "cells/d/b/m/seed-1"
    _bombs(folder, gone, "a.pt", "results.pkl")
    _bombs(cell, gone, "users.parquet", "ranked.parquet", "train.jsonl", "weights.bin")
    suite = {"name": "x", "seeds": [1], "datasets": [], "backbones": [], "methods": [], "metrics": ["ndcg@10"]}
    (folder / "suite.json").write_text(json.dumps(suite))
    record = {"schema": 1, "metrics": {"ndcg@10": 0.1}, "provenance": {"fingerprint": "f"}}
    (cell / "metrics.json").write_text(json.dumps(record))
    assert _main(["report", str(folder), "--out", str(tmp_path / "o")]) == 2
    assert "parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:pathlib.Path.touch [{bomb}]",
        "name: !!python/object/apply:os.system ['touch {bomb}']",
        "name: !!python/object/new:pathlib.Path [{bomb}]",
        "name: !!python/name:os.system",
        "name: !!python/module:os",
    ],
)
def test_yaml_makes_no_objects(tmp_path: Path, gone: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text.format(bomb=gone))
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(path.read_text())
    with pytest.raises(BenchError, match=r"x\.yaml, line 1: not valid YAML"):
        read_yaml(path)


CODE = "from pathlib import Path\nPath({bomb!r}).touch()\nclass Own: pass\n"
AUTO = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}


def _with_code(folder: Path, gone: Path, kind: str, auto: dict[str, str]) -> Path:
    """Put a model's own code beside it."""
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind, "auto_map": auto}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    for name in ("own.py", "sitecustomize.py", "__init__.py"):
        (folder / name).write_text(CODE.format(bomb=str(gone)))
    return folder


def test_a_model_that_needs_its_own_code_is_refused_before_anything_runs(
    tmp_path: Path, gone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _with_code(_model(tmp_path / "m"), gone, "own", AUTO)
    for look in (models.check_files, models.folder_of):
        with pytest.raises(
            BenchError, match=r"config\.json: .*\(auto_map: own\.Own\), which is never run, and there is no"
        ):
            look(str(folder))
    with pytest.raises(BenchError):
        language.pretrained(folder)
    with pytest.raises(BenchError):
        models.width_of(folder)
    (tmp_path / "x.yaml").write_text(
        "name: x\ndatasets: [ml-100k]\nmethods: [sft]\n"
        "backbones: [bigrec-qwen: {model: ./m, trust_remote_code: true}]\n"
    )
    assert _main(["validate", str(tmp_path / "x.yaml")]) == 2
    assert "backbones[0].trust_remote_code: unknown setting" in capsys.readouterr().err


def test_code_beside_a_model_that_transformers_knows_is_not_run(tmp_path: Path, gone: Path) -> None:
    folder = _with_code(_model(tmp_path / "m"), gone, "qwen2", AUTO)
    assert type(language.pretrained(models.folder_of(str(folder)))).__name__ == "Qwen2ForCausalLM"


def test_code_in_a_folder_of_a_text_model_is_not_run(tmp_path: Path, gone: Path) -> None:
    from rlrecbench.identifiers.sentences import sentence_vectors
    from rlrecbench.store import silent

    folder = _with_code(_model(tmp_path / "m"), gone, "own", {**AUTO, "AutoModel": "own.Own"})
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]))
    with pytest.raises(BenchError, match="cannot be loaded"):
        sentence_vectors(["a"], folder, None, torch.device("cpu"), silent)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/abs", "..", ".", ".hidden", "a\\b", "a\0b", "x" * 300, "A", "", "a\n"]
)
@pytest.mark.parametrize("place", ["name", "dataset", "backbone", "method", "unlabelled"])
def test_names_never_become_paths(tmp_path: Path, name: str, place: str) -> None:
    suite: dict[str, Any] = {"name": "x", "datasets": ["ml-100k"], "backbones": ["tiger"], "methods": ["sft"]}
    known = {"dataset": "ml-100k", "backbone": "tiger", "method": "sft"}
    if place == "name":
        suite["name"] = name
    elif place == "unlabelled":
        suite["datasets"] = [name]
    else:
        suite[f"{place}s"] = [{known[place]: {"as": name}}]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(BenchError, match=r"x\.yaml: (name|datasets|backbones|methods)"):
        load(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "A", "", "x" * 300])
def test_plug_ins_cannot_register_a_path(name: str) -> None:
    with pytest.raises(BenchError, match="allowed are lower-case letters"):
        registry.Registry[object]("method").register(name)


def test_recommendations_of_a_data_set_outside_the_data_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "secret.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n")
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("../secret", str(secret), "secret/../../secret"):
        assert _main(["data", "info", name, "--data-dir", str(data)]) == 2
        assert "no dataset" in capsys.readouterr().err


def test_links_in_a_model_folder_are_read_as_the_files_they_lead_to(tmp_path: Path) -> None:
    """The hub's own cache is made of links; a link that leads nowhere is a missing file, one to a folder is no file."""
    folder = _model(tmp_path / "m")
    before = models.source(str(folder))
    shutil.move(folder / "model.safetensors", tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert models.source(str(folder)) == before
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BenchError):
        language.pretrained(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder, target_is_directory=True)
    with pytest.raises(BenchError):
        language.pretrained(folder)
