"""Malformed suites, options and plug-in files: whatever stands there, the answer is one sentence, never a traceback.

Suites begin valid and are damaged: keys, types, nesting, sizes, text, tags. The draws are the same in every run.
"""

import contextlib
import copy
import datetime
import gzip
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlrecbench.cli import _main
from rlrecbench.method import methods

SECONDS = 5.0  # of this process's own time, imports left out
LONGEST = 2000  # characters of a sentence
FUZZ = settings(
    derandomize=True, database=None, deadline=None, max_examples=200, suppress_health_check=list(HealthCheck)
)
VALID: list[dict[str, Any]] = [
    {
        "name": "t",
        "seeds": [1, 2],
        "datasets": [{"ml-100k": {"last": 12, "max_history": 5}}],
        "backbones": [{"tiger": {"preset": "tiny", "ids": {"kind": "rkmeans", "levels": 2, "codes": 32}}}],
        "methods": ["most-popular", "sft", {"dpo": {"beta": 0.5, "lr": 1e-4, "start": "sft", "as": "mine"}}],
        "train": {"epochs": 2, "batch_size": 64, "micro_batch": None},
        "rank": {"beams": 20, "k": 10},
        "metrics": ["ndcg@10", "recall@5"],
        "stats": {"primary": "ndcg@10", "baseline": "sft", "alpha": 0.05},
        "overrides": [{"when": {"method": "mine", "seed": [1]}, "set": {"lr": 1e-5}}],
        "plugins": [],
    },
    {
        "name": "titles",
        "datasets": ["ml-100k"],
        "backbones": [{"bigrec-qwen": {"model": "tiny", "lora": {"rank": 4}, "tiny": {"layers": 1}}}, "tiger"],
        "methods": ["sft", "item-graph", {"gflowgr-tb": {"lam": 1.0, "trajectories": 1}}, {"ppo": {"as": "p"}}],
        "collab": {"layers": 1},
    },
]
DEEP: Any = 1
for _ in range(90):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, False, -1, 0, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), 1e-320,
    "", " ", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b", "a\nb", "tiny", "sft", "ünïcode", "\u202e\U0001f4a5",
    "\ud800", "x" * 5000, "%s{0}[red]", "'\"", "1", "true", "null", "~/x", "http://x.org/y", "file:x.npy", "org/name",
    datetime.date(2024, 1, 2), b"\x00\xff", {"a", "b"}, [], {}, [[]], [{}], {"": 1}, {1: 2}, {True: 3}, {"kind": "x"},
    {"a": {"b": {"c": 1}}}, DEEP, list(range(3000)), {f"k{i}": i for i in range(300)}, ["sft"] * 3, [None], [1.5],
]  # fmt: skip
KEYS = [
    "", " ", "name", "kind", "as", "start", "ids", "epochs", "Epochs", "when", "__class__", "__init__", "self",
    "cls", "model", "a.b", "x" * 3000, "ключ", "\0", "\ud800", 1, 0.5, True, None, datetime.date(2024, 1, 2),
]  # fmt: skip
LINES = [
    "<<: {a: 1}", "a: &a [*a]", "a: *nothing", "seeds: !!python/object/apply:os.system [touch bomb]",
    "seeds: !!python/name:os.system", "seeds: !!binary x", "seeds: !!int x", "seeds: !<x> 1", "seeds: !!set {1, 2}",
    "seeds: 0o17", "seeds: 017", "seeds: 1_000", "seeds: 1:30:00", "seeds: 2024-99-99", "seeds: 2024-01-01T00:00:00Z",
    "name: 2024-01-01", "name: yes", "name: ~", "? [a]\n: 1", "? {a: b}", "---", "...", "%YAML 9.9", "\tname: t",
    "name: |", "name: >-\n  x", "- a", "{", "}", "[", "]", "'", '"', "\x00", "\x85", "\u2028", "\ufeff", ":",
    "seeds: 1" + "0" * 5000, "seeds: .nan", "seeds: " + "[" * 3000, "seeds: " + "{a: " * 500, "plugins: [/dev/null]",
    'plugins: ["a\\0b.py"]',
]  # fmt: skip


BOMB = "a: &a [x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
)


class Place(NamedTuple):
    """A value in a tree: the container and the key or index."""

    box: Any
    key: Any


def places(tree: Any) -> Iterator[Place]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield Place(tree, key)
        yield from places(tree[key])


def damage(draw: st.DrawFn, tree: dict[str, Any]) -> None:
    """Change one place of a suite."""
    found = list(places(tree))
    inner = [place for place in found if place.box is not tree]
    if not found:
        return
    deep = draw(st.sampled_from([True, True, True, True, False]))
    box, key = draw(st.sampled_from(inner if inner and deep else found))
    kind = draw(st.sampled_from(["value", "value", "value", "rename", "remove", "extra", "wrap", "twice", "swap"]))
    value = copy.deepcopy(draw(st.sampled_from(VALUES)))
    if kind == "value":
        box[key] = value
    elif kind == "wrap":
        box[key] = draw(st.sampled_from([[box[key]], {"x": box[key]}]))
    elif kind == "remove":
        del box[key]
    elif kind == "swap":
        other, where = draw(st.sampled_from(found))
        box[key], other[where] = copy.deepcopy(other[where]), copy.deepcopy(box[key])
    elif isinstance(box, list):
        box.insert(key, copy.deepcopy(box[key]) if kind == "twice" else value)
    else:
        new = key + "s" if kind == "twice" and isinstance(key, str) else draw(st.sampled_from(KEYS))
        box[new] = box.pop(key) if kind == "rename" else value


@st.composite
def suites(draw: st.DrawFn) -> bytes:
    """The bytes of a damaged suite."""
    tree = copy.deepcopy(draw(st.sampled_from(VALID)))
    level = draw(st.sampled_from(["tree", "tree", "tree", "text", "bytes"]))
    for _ in range(draw(st.integers(1, 3)) if level == "tree" else 0):
        damage(draw, tree)
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=draw(st.sampled_from([None, True, False])))
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 2)) if level == "text" else 0):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(LINES)))
    data = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).join(lines).encode("utf-8", "surrogatepass")
    how = draw(st.sampled_from(["cut", "flip", "noise", "utf-16", "latin-1"])) if level == "bytes" else ""
    if how == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if how == "flip" and data:
        at = draw(st.integers(0, len(data) - 1))
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if how:
        return draw(st.binary(max_size=300)) if how == "noise" else text.encode(how, "ignore")
    return data


def told(arguments: list[str]) -> tuple[int, str]:
    """Run the command line in this process; return the exit status and what it said on stderr."""
    out, err, start = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _main(arguments)
    assert time.process_time() - start < SECONDS
    return status, err.getvalue()


def check(arguments: list[str], *names: str) -> None:
    """Expect success, or status 2 with one sentence that holds the names."""
    status, said = told(arguments)
    assert status in (0, 2), said
    if status == 2:
        assert said.startswith("rlrecbench: error: "), said
        assert said.count("\n") == 1, said
        assert "Traceback" not in said
        assert len(said) < LONGEST, said
        for name in names:
            assert name in said, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty working folder, which stays as it is."""
    place, before = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    os.chdir(place)
    (place / "x.yaml").write_text(yaml.safe_dump(VALID[0]))
    assert _main(["validate", "x.yaml"]) == 0
    yield place
    os.chdir(before)
    assert not (place / "bomb").exists()


@FUZZ
@given(data=suites())
def test_a_damaged_suite_is_valid_or_refused_in_one_sentence_that_names_it(folder: Path, data: bytes) -> None:
    (folder / "x.yaml").write_bytes(data)
    check(["validate", "x.yaml"], "x.yaml")
    assert {p.name for p in folder.iterdir()} <= {"x.yaml", "data"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (BOMB, "aliases"),
        ("a: &a [*a]\n", "holds itself"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("<<: {name: t}\nname: t\n", "line 1: not valid YAML: merge keys"),
        ("name: t\nname: u\n", "line 2: not valid YAML: the key 'name' stands twice"),
        ("name: t\nseeds: !!python/object/apply:os.system [touch bomb]\n", "line 2"),
        ("name: t\nseeds: 2024-99-99\n", "not valid YAML: month must be in 1..12"),
        ('name: "\\ud800"\n', "half a character"),
        ("name: a\0b\n", "the character #x0000 is not allowed"),
        ("seeds: 1" + "0" * 5000, "4300 digits"),
    ],
    ids=lambda v: v[:20].replace("\n", " ") if isinstance(v, str) else None,
)
def test_each_trap_of_yaml_has_its_sentence(folder: Path, text: str, place: str) -> None:
    """The first stands for 9^9 values in 300 bytes."""
    (folder / "x.yaml").write_text(text)
    status, said = told(["validate", "x.yaml"])
    assert (status, said.count("\n")) == (2, 1)
    assert place in said
    assert "x.yaml" in said


WORDS = st.one_of(
    st.sampled_from([str(v) for v in VALUES] + [repr(v) for v in VALUES if not isinstance(v, bytes)] + LINES),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
).map(lambda text: text.encode("utf-8", "replace").decode().replace("\0", "0"))
PARTS = st.sampled_from(
    [
        "train",
        "epochs",
        "methods",
        "dpo",
        "mine",
        "backbones",
        "tiger",
        "ids",
        "seeds",
        "",
        "0",
        "name",
        "x",
        "overrides",
    ]
)


@FUZZ
@given(
    option=st.sampled_from(["--set", "--only"]), parts=st.lists(PARTS, max_size=4), value=WORDS, equals=st.booleans()
)
def test_any_change_or_filter_is_taken_or_refused_in_one_sentence(
    folder: Path, option: str, parts: list[str], value: str, equals: bool
) -> None:
    (folder / "x.yaml").write_text(yaml.safe_dump(VALID[0]))
    keys = ["dataset", "backbone", "method", "seed"]
    key = ".".join(parts) if option == "--set" else (keys + parts)[len(value) % (4 + len(parts))]
    check(["validate", "x.yaml", f"{option}={key}{'=' * equals}{value}"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def f(:", "line 1: SyntaxError"),
        ("\n\n1 / 0", "line 3: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", "line 2: SystemExit: 0"),
        ("raise SystemExit", "line 1: SystemExit"),
        ("import no_such_module", "line 1: ModuleNotFoundError"),
        ("raise ValueError('two\\nlines')", "line 1: ValueError: two"),
        ("raise Exception", "line 1: Exception"),
        ("x = 1", "no method 'own'"),
        ("\0", "SyntaxError|ValueError"),
        ("def f():\n\tpass\n        pass", "TabError|IndentationError"),
        ("from rlrecbench.api import method\n@method('../x')\nclass A: pass", "line 2: method name '../x'"),
        ("from rlrecbench.api import method\n@method('own')\nclass A: pass", "'own'"),
        ("from rlrecbench.api import method\n@method('own')\ndef f(): pass", "'own'|own"),
        ("from rlrecbench.api import method\n@method(3)\nclass A: pass", "line 2: method name 3"),
    ],
)
def test_a_broken_plug_in_is_told_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "own.py").write_text(text)
    suite = {**VALID[0], "plugins": ["own.py"], "methods": ["sft", "own"]}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(suite))
    before = {e.name for e in methods}
    status, said = told(["validate", str(tmp_path / "x.yaml")])
    for name in {e.name for e in methods} - before:
        del methods._entries[name]
    assert status == 2, said
    assert said.count("\n") == 1, said
    assert any(s in said for s in sentence.split("|")), said


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """The bytes of a damaged file of recommendations."""
    cells = st.sampled_from(
        [
            "196",
            "242",
            "1",
            "2",
            "0",
            "-1",
            "1.0",
            "1e99",
            "nan",
            "",
            " ",
            "x",
            '"',
            "'",
            "\t",
            ",",
            "é",
            "NULL",
            "9" * 400,
        ]
    )
    header = draw(st.permutations(["user_id", "item_id", "rank"]))[: draw(st.integers(0, 3))]
    rows = [header, *draw(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6))]
    separator, end = draw(st.sampled_from("\t,;")), draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    data = end.join(separator.join(row) for row in rows).encode()
    at, how = draw(st.integers(0, len(data))), draw(st.sampled_from(["", "", "cut", "noise", "insert"]))
    if how == "noise":
        return draw(st.binary(max_size=100))
    return data[:at] if how == "cut" else data[:at] + b"\xff\x00" * (how == "insert") + data[at:]


@settings(FUZZ, max_examples=150)
@given(data=tables(), ending=st.sampled_from([".tsv", ".csv", ".parquet", ".tsv.gz", ".txt"]))
def test_damaged_recommendations_are_scored_or_refused_in_one_sentence(folder: Path, data: bytes, ending: str) -> None:
    name = f"recs{ending}"
    toy = folder / "data/toy/toy.inter"
    if not toy.exists():
        toy.parent.mkdir(parents=True)
        rows = [f"{user}\t{item}\t{item}" for user in (196, 1, 2) for item in (242, 1, 2, 3, 4, 5)]
        toy.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]))
    (folder / name).write_bytes(gzip.compress(data) if ending.endswith(".gz") and len(data) % 2 else data)
    try:
        status, said = told(["score", name, "--dataset", "toy", "--data-dir", "data", "--k", "5"])
    finally:
        (folder / name).unlink()
    assert status in (0, 2), said
    if status == 2:
        assert said.startswith("rlrecbench: error: "), said
        assert said.count("\n") == 1, said
        assert name in said, said
