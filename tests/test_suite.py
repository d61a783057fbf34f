"""Suites: what they expand to, and how they refuse what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlrecbench import suite as suites
from rlrecbench.config import digest
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.stages import Train
from rlrecbench.store import closure, from_json, to_json

GOOD: dict[str, Any] = {
    "name": "t",
    "seeds": [1, 2],
    "datasets": ["ml-100k"],
    "backbones": [{"tiger": {"preset": "tiny"}}],
    "methods": ["most-popular", "sft", "dpo"],
    "train": {"epochs": 2},
}


def _write(folder: Path, **changes: Any) -> Path:
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def _cells(folder: Path, **changes: Any) -> list[suites.Cell]:
    return suites.expand(suites.load(_write(folder, **changes)), [])


def test_cells_and_shared_stages(tmp_path: Path) -> None:
    """2 seeds x (sft, dpo) on tiger and most-popular once a seed; dpo's start is the sft of the same seed."""
    cells = _cells(tmp_path)
    assert [(c.backbone, c.method, c.seed) for c in cells] == [
        ("tiger", "sft", 1), ("tiger", "sft", 2), ("tiger", "dpo", 1), ("tiger", "dpo", 2),
        ("none", "most-popular", 1), ("none", "most-popular", 2),
    ]  # fmt: skip
    names = [s.name for s in closure([c.score for c in cells])]
    assert {n: names.count(n) for n in set(names)} == {
        "prepare": 1, "embed": 1, "identify": 1, "train": 4, "rank": 6, "score": 6,
    }  # fmt: skip
    sft, dpo = cells[0].score.rank.train, cells[2].score.rank.train
    assert sft is not None
    assert dpo is not None
    assert dpo.start is not None
    assert dpo.start.key == sft.key


def test_what_changes_an_identity_and_what_does_not(tmp_path: Path) -> None:
    base = _cells(tmp_path)[0].score
    assert _cells(tmp_path, train={"epochs": 2, "micro_batch": 4, "checkpoint_minutes": 1})[0].score.key == base.key
    assert _cells(tmp_path, rank={"batch": 7})[0].score.key == base.key
    assert suites.expand(suites.load(_write(tmp_path)), [], device="cpu")[0].score.key == base.key
    assert suites.expand(suites.load(_write(tmp_path)), [], limit_users=5)[0].score.key != base.key
    other = _cells(tmp_path, train={"epochs": 3})[0].score
    assert other.key != base.key
    again = _cells(tmp_path, metrics=["ndcg@10"])[0].score
    assert again.key != base.key
    assert again.rank.key == base.rank.key  # a metric never retrains
    explicit = _cells(tmp_path, datasets=[{"ml-100k": {"max_history": 20}}])[0].score
    assert explicit.key == base.key  # a default written out is the same thing


def test_a_metric_that_reads_collaborative_scores_brings_their_model(tmp_path: Path) -> None:
    """One model for each seed, the sasrec ranker's own; without such a metric the key knows nothing of it."""
    changes: dict[str, Any] = {"methods": ["sft", "sasrec"]}
    plain = _cells(tmp_path, **changes)[0].score
    assert plain.collab is None
    fields = {"rank": {"key": plain.rank.key}, "metrics": list(plain.metrics), "definitions": plain.definitions}
    assert plain.key == digest({"stage": "score", "version": plain.version, "fields": fields})
    cells = _cells(tmp_path, **changes, metrics=["ndcg@10", "collab-mean@10"])
    names = [s.name for s in closure([c.score for c in cells])]
    assert (names.count("collab"), names.count("train"), names.count("rank")) == (2, 2, 4)
    assert {c.score.rank.key for c in cells} == {c.score.rank.key for c in _cells(tmp_path, **changes)}
    sasrec = next(c.score for c in cells if c.method == "sasrec")
    assert sasrec.collab is not None
    assert sasrec.rank.collab is not None
    assert sasrec.collab.key == sasrec.rank.collab.key
    changes["collab"] = {"epochs": 1}
    other = _cells(tmp_path, **changes, metrics=["ndcg@10", "collab-mean@10"])[0].score
    assert other.key != cells[0].score.key
    assert other.rank.key == cells[0].score.rank.key
    again = from_json(to_json(cells[0].score))
    assert again.key == cells[0].score.key
    assert from_json(to_json(plain)).key == plain.key


def test_settings_by_precedence(tmp_path: Path) -> None:
    """Budget default < suite's train < method class < the method's own < overrides."""
    cells = _cells(
        tmp_path,
        methods=["sft", "dpo", {"dpo": {"as": "mine", "lr": 0.002, "beta": 0.5}}],
        overrides=[{"when": {"method": "mine", "seed": 2}, "set": {"lr": 0.003, "epochs": 9}}],
    )
    budgets = {(c.method, c.seed): c.score.rank.train.budget for c in cells if c.score.rank.train}
    assert budgets["sft", 1]["lr"] == 5e-4
    assert budgets["dpo", 1]["lr"] == 1e-5
    assert (budgets["sft", 1]["epochs"], budgets["dpo", 1]["epochs"]) == (2, 3)
    assert (budgets["mine", 1]["lr"], budgets["mine", 1]["epochs"]) == (0.002, 3)
    assert (budgets["mine", 2]["lr"], budgets["mine", 2]["epochs"]) == (0.003, 9)
    mine = next(c.score.rank.train for c in cells if c.method == "mine")
    assert mine is not None
    assert mine.settings["beta"] == 0.5


def test_starts_outside_the_suite_and_chains(tmp_path: Path) -> None:
    cells = _cells(
        tmp_path, seeds=[1], methods=[{"dpo": {"start": "gflowgr-tb", "as": "a"}}, {"dpo": {"start": "a", "as": "b"}}]
    )
    last = cells[-1].score.rank.train
    chain = []
    while last is not None:
        chain.append(last.method)
        last = last.start
    assert chain == ["dpo", "dpo", "gflowgr-tb"]
    trainings = [s for s in closure([c.score for c in cells]) if isinstance(s, Train)]
    assert len(trainings) == 3


def test_set_and_only(tmp_path: Path) -> None:
    path = _write(tmp_path)
    suite = suites.load(path, ["seeds=[7]", "train.epochs=1", "methods.dpo.beta=0.9", "backbones.tiger.preset=paper"])
    assert suite.seeds == (7,)
    assert suite.train == {"epochs": 1}
    assert suite.methods[2].settings == {"beta": 0.9}
    assert suite.backbones[0].settings == {"preset": "paper"}
    cells = suites.select(suites.expand(suite, []), ["method=sft,most-popular", "backbone=tiger"])
    assert [c.method for c in cells] == ["sft"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["sdpo"]}, r"methods\[0\]: no method 'sdpo'; did you mean 's-dpo'"),
        ({"methods": [{"dpo": {"bta": 1}}]}, r"methods\[0\]\.bta: unknown setting; did you mean 'beta'"),
        ({"methods": [{"dpo": {"beta": -1}}]}, r"methods\[0\]\.beta: .*greater than 0, found -1"),
        ({"methods": [{"dpo": {"beta": "x"}}]}, r"methods\[0\]\.beta: .*number, found \"x\""),
        ({"methods": [{"dpo": {"lr": 0}}]}, r"methods\[0\]\.lr: .*greater than 0"),
        ({"methods": ["sft", "sft"]}, r"methods\[1\]: 'sft' stands twice; give one of them another name"),
        ({"methods": [{"dpo": {"start": "sfft"}}]}, r"methods\[0\]\.start: no method 'sfft'; did you mean 'sft'"),
        ({"methods": [{"dpo": {"start": "dpo"}}]}, r"the starts form a circle: dpo -> dpo"),
        ({"methods": [{"dpo": {"start": "sasrec"}}]}, r"'sasrec' trains nothing"),
        ({"methods": [{"dpo": {"as": "../x"}}]}, r"methods\[0\]\.as"),
        ({"methods": []}, r"methods: give at least one"),
        ({"methods": [["sft"]]}, r"methods\[0\]: write a name"),
        ({"methods": [{"dpo": 3}]}, r"methods\[0\]: the settings of 'dpo' must be a mapping"),
        ({"datasets": ["ml100k"]}, r"ml-100k"),
        ({"datasets": [{"ml-100k": {"last": 0}}]}, r"datasets\[0\]\.last: .*greater than 0"),
        ({"datasets": ["ml-100k", "ml-100k"]}, r"datasets\[1\]: 'ml-100k' stands twice"),
        ({"backbones": ["tigre"]}, r"backbones\[0\]: no backbone 'tigre'; did you mean 'tiger'"),
        ({"backbones": [{"tiger": {"ids": {"codes": 0}}}]}, r"backbones\[0\]\.ids\.codes"),
        ({"backbones": []}, r"backbones: the methods need at least one"),
        ({"seeds": [1, 1]}, r"seeds: give at least one"),
        ({"seeds": [-1]}, r"seeds: give at least one"),
        ({"seeds": "42"}, r"seeds"),
        ({"metrics": ["ndgc@10"]}, r"metrics\[0\].*did you mean"),
        ({"metrics": ["ndcg@20"]}, r"metrics\[0\]: ndcg@20 needs lists of 20; raise rank\.k"),
        ({"rank": {"beams": 5}}, r"rank\.beams: 5 beams cannot fill lists of 10"),
        ({"stats": {"primary": "mrr@10"}}, r"stats\.primary"),
        ({"train": {"epoch": 1}}, r"train\.epoch: unknown setting; did you mean 'epochs'"),
        ({"collab": {"layers": 0}}, r"collab\.layers"),
        ({"overrides": [{"when": {"method": "x"}, "set": {}}]}, r"overrides\[0\]\.when\.method: the suite has no 'x'"),
        ({"overrides": [{"when": {"method": "dpo"}, "set": {"bta": 1}}]}, r"methods\[2\]\.bta: unknown setting"),
        ({"plugins": ["no.py"]}, r"no\.py does not exist"),
        ({"trian": {}}, r"trian: unknown setting; did you mean 'train'"),
        ({"name": "a/b"}, r"name"),
        ({"name": None}, r"name"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message) as caught:
        suites.expand(suites.load(_write(tmp_path, **changes)), [])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "change",
    [
        "epochs",
        "=1",
        "train=",
        "methods.nothing.lr=1",
        "methods.dpo=1",
        "name.x=1",
        "seeds=[1",
        "train.epochs=[",
        "methods=7",
    ],
)
def test_a_wrong_set_is_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(ConfigError):
        suites.load(_write(tmp_path), [change])


def test_wrong_filters_and_names(tmp_path: Path) -> None:
    cells = _cells(tmp_path)
    for rule in ("method=sfft", "methd=sft", "method", "method="):
        with pytest.raises(ConfigError):
            suites.select(cells, [rule])
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        suites.find("quickstrat")
    with pytest.raises(ConfigError, match="does not exist"):
        suites.find("no/such.yaml")


@pytest.mark.parametrize("name", suites.builtin())
def test_built_in_suites_are_valid(name: str) -> None:
    assert suites.load(suites.find(name)).methods


def test_a_method_field_that_shadows_the_budget_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shadow.py").write_text(
        "from dataclasses import dataclass\n"
        "from rlrecbench.api import FineTune, method\n"
        "@method('shadow')\n@dataclass(frozen=True)\n"
        "class Shadow(FineTune):\n    '''X.'''\n    lr: float = 1.0\n"
        "    def loss(self, step):\n        return -step.logp.mean()\n"
    )
    with pytest.raises(ConfigError, match="field 'lr' is a name of the training budget"):
        suites.load(_write(tmp_path, methods=["shadow"], plugins=["shadow.py"]))


def test_one_data_set_twice_under_two_names(tmp_path: Path) -> None:
    """The label names cells and overrides; what is computed knows the data set's own name."""
    overrides = [{"when": {"dataset": "short", "method": "sft"}, "set": {"lr": 0.5}}]
    sets = ["ml-100k", {"ml-100k": {"as": "short", "last": 5}}]
    cells = _cells(tmp_path, datasets=sets, methods=["sft"], seeds=[1], overrides=overrides)
    assert [c.dataset for c in cells] == ["ml-100k", "short"]
    long, short = (c.score.rank.train for c in cells)
    assert long is not None
    assert short is not None
    assert (long.data.dataset, short.data.dataset) == ("ml-100k", "ml-100k")
    assert (long.data.options["last"], short.data.options["last"]) == (None, 5)
    assert (long.budget["lr"], short.budget["lr"]) == (5e-4, 0.5)


def test_length_penalty_is_part_of_a_list_only_where_it_is_not_0(tmp_path: Path) -> None:
    """Lists of before the setting existed keep their identity."""
    none, zero, one = (
        _cells(tmp_path, methods=["sft"], seeds=[1], rank=rank)[0].score.rank
        for rank in ({}, {"length_penalty": 0}, {"length_penalty": 1})
    )
    assert none.key == zero.key
    assert none.key != one.key
    assert "length_penalty" not in none.identity["fields"]
    assert one.identity["fields"]["length_penalty"] == 1.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "./nowhere"}, r"backbones\[0\].model: .*nowhere: there is no such folder"),
        ({"model": "Tiny"}, r"backbones\[0\].*did you mean 'tiny'"),
        ({"model": "a b"}, r"backbones\[0\].*a hub name such as"),
        ({"vocab": 10}, r"backbones\[0\].*512 or more"),
        ({"tiny": {"d_model": 10, "heads": 4}}, r"backbones\[0\].tiny.*multiple of 2 \* heads"),
        ({"lora": {"ranks": 4}}, r"backbones\[0\].*ranks.*did you mean 'rank'"),
        ({"ids": {"kind": "rkmeans"}}, r"backbones\[0\].*ids"),
    ],
)
def test_wrong_settings_of_a_language_model(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        suites.load(_write(tmp_path, backbones=[{"bigrec-qwen": settings}]))
