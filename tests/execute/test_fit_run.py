"""Fitting a distribution from the suite to the picture: real titles, a tiny decoder, and what lies on disk after it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from rlrecbench import identifiers, results
from rlrecbench import suite as suites
from rlrecbench.errors import BenchError
from rlrecbench.execute.export import export
from rlrecbench.metrics import metrics
from rlrecbench.metrics.fitting import js, kl, tv
from rlrecbench.report.figures import draw_fits
from rlrecbench.store import Store, closure

NAMES = [f"{e.name}@1" for e in metrics if e.value.needs == "fit"]
SUITE: dict[str, Any] = {
    "name": "fit",
    "seeds": [1],
    "datasets": [{"ml-100k": {"last": 12, "titles": 20, "rows": 400}}],
    "backbones": [{"bigrec-qwen": {"tiny": {"layers": 1, "d_model": 32, "d_ff": 64}, "vocab": 512}}],
    "methods": [
        {"sft": {"lr": 3e-3}},
        {"flower": {"reward": "frequency", "sft_weight": 0.0, "lam": 1.0, "policy_measure": "trie", "lr": 3e-3}},
    ],
    "train": {"batch_size": 16, "max_steps": 30, "eval_every": 3, "clip": 1.0},
    "rank": {"beams": 1, "k": 1},
    "metrics": [*NAMES, "recall@1", "kl-normal@1"],
    "stats": {"primary": "fit-js-exact@1", "test": "t-seeds"},
}


def computed(folder: Path, changes: dict[str, Any]) -> tuple[list[suites.Cell], Store]:
    """Compute a suite's cells."""
    (folder / "x.yaml").write_text(yaml.safe_dump({**SUITE, **changes}))
    cells = suites.expand(suites.load(folder / "x.yaml"), [], device="cpu")
    store = Store(folder / "store")
    for stage in closure([c.score for c in cells]):
        store.ensure(stage)
    return cells, store


def test_from_titles_to_the_picture(tmp_path: Path) -> None:
    """Flower fits and SFT lags behind; every number follows from what was drawn and given, which is on disk."""
    cells, store = computed(tmp_path, {})
    folder = tmp_path / "results"
    for cell in cells:
        export(cell, folder, store)
    (folder / "suite.json").write_text(json.dumps(suites.load(tmp_path / "x.yaml").as_json()))
    found = {r.method: r for r in results.load(folder).records}
    for cell in cells:
        record, train = found[cell.method], cell.score.rank.train
        assert train is not None
        titles = pd.read_parquet(record.path / "titles.parquet")
        weight, exact = titles["weight"].to_numpy(float), titles["exact"].to_numpy()
        assert titles["title"].nunique() == 20
        assert (np.diff(weight) <= 0).all()
        assert exact.sum() == pytest.approx(1, abs=1e-5)
        drawn = pd.read_parquet(record.path / "ranked.parquet")["item_id"].value_counts()
        assert titles["sampled"].tolist() == [int(drawn.get(i, 0)) for i in titles["item_id"]]
        wanted = pd.read_parquet(record.path / "users.parquet")["target"].value_counts()
        assert titles["floor"].tolist() == [int(wanted.get(i, 0)) for i in titles["item_id"]]
        assert drawn.sum() == wanted.sum() == 400

        made = identifiers.read(store.path(train.ids))
        tokens = np.zeros((20, made.vocab))
        for item, path in enumerate(made.catalogue().paths.tolist()):
            for token in path:
                if token not in (-1, made.catalogue().terminator):
                    tokens[item, token] += 1
        values = record.metrics
        for name, counts in (("", titles["sampled"]), ("-floor", titles["floor"]), ("-exact", titles["exact"])):
            assert values[f"fit-js{name}@1"] == pytest.approx(js(weight, counts.to_numpy(float)))
            assert values[f"fit-tv{name}@1"] == pytest.approx(tv(weight, counts.to_numpy(float)))
            if name != "-exact":
                of_tokens = kl(weight @ tokens, counts.to_numpy(float) @ tokens)
                assert values[f"fit-token-kl{name}@1"] == pytest.approx(of_tokens)
        assert np.isfinite([values[name] for name in NAMES]).all()
        assert record.audit["short_entries"] == record.audit["invalid_entries"] == 0
    flower, sft = found["flower"].metrics, found["sft"].metrics
    assert flower["fit-js-exact@1"] < 0.002 < 0.005 < sft["fit-js-exact@1"]
    assert flower["fit-js-floor@1"] == sft["fit-js-floor@1"]
    pictures = draw_fits(results.load(folder), folder / "figures")
    assert [p.name for p in pictures] == ["fit-ml-100k-bigrec-qwen.pdf", "fit-ml-100k-bigrec-qwen.png"]


@pytest.mark.parametrize(("method", "backbone"), [("most-popular", "none"), ("temp", "bigrec-qwen")])
def test_what_ranks_by_other_means_is_refused(tmp_path: Path, method: str, backbone: str) -> None:
    with pytest.raises(BenchError, match=f"items are drawn from a trained policy, and {method} ranks by other means"):
        computed(tmp_path, {"methods": ["sft", method], "train": {"batch_size": 8, "max_steps": 1}})
