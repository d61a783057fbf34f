"""From a suite's words to published identifiers, through the stages that make them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlrecbench.backbones import Tiger
from rlrecbench.config import build
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers import Identifiers, RKMeansIds, id_settings, identify
from rlrecbench.identifiers.text import texts_of, tfidf_svd
from rlrecbench.stages import Embed, Identify
from rlrecbench.store import Store, closure, silent
from rlrecbench.suite import expand, load

FAST = "{epochs: 4, evaluate: 2, levels: 2, codes: 32, dim: 16, latent: 8}"
LETTER = "{epochs: 4, evaluate: 2, levels: 3, codes: 32, dim: 16, latent: 8, cluster_every: 2, reassign: 3}"
COLLAB = "{layers: 1, heads: 1, inner: 16, epochs: 1}"


def stages(folder: Path, backbone: str, more: str = "", data: Path | None = None, name: str = "ml-100k") -> list[Any]:
    """The identify stages of a suite with this backbone."""
    path = folder / "mine.yaml"
    options = ": {last: 6, max_history: 4}" if name == "ml-100k" else ""
    path.write_text(
        f"name: mine\ndatasets: [{name}{options}]\nbackbones:\n  - {backbone}\nmethods: [sft]\ncollab: {COLLAB}\n{more}"
    )
    cells = expand(load(path), [data] if data else [], device="cpu")
    return [s for s in closure([c.score for c in cells]) if isinstance(s, Identify)]


def made(folder: Path, stage: Identify) -> tuple[Identifiers, Path]:
    """Compute a stage and all it needs."""
    store = Store(folder / "store")
    for one in closure([stage]):
        store.ensure(one)
    return Identifiers.read(store.path(stage)), store.path(stage)


def toy(folder: Path, texts: list[str], ids: list[str] | None = None) -> Path:
    """A data folder with items of these texts, each seen by two users."""
    ids = ids or [str(i) for i in range(len(texts))]
    (folder / "toy").mkdir(parents=True)
    rows = [f"u{u}\t{item}\t{t}" for u in range(2) for t, item in enumerate(ids)]
    (folder / "toy" / "toy.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n"
    )
    items = [f"{item}\t{text}" for item, text in zip(ids, texts, strict=True)]
    (folder / "toy" / "toy.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n")
    return folder


def test_tiger_has_rqvae_with_a_collision_code_and_writes_all_of_it(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, f"tiger: {{preset: tiny, ids: {FAST}}}")
    ids, folder = made(tmp_path, stage)
    assert stage.settings["kind"] == "rqvae"
    assert ids.codes.shape == (1682, 3)
    assert (ids.content, ids.report()["unique"]) == (2, 1682)
    assert sorted(p.name for p in folder.iterdir()) == [
        "codes.npy", "cost.json", "index.json", "model.safetensors", "report.json", "stage.json", "training.jsonl",
    ]  # fmt: skip
    index = json.loads((folder / "index.json").read_text())
    assert index["1"] == [f"<{'abc'[level]}_{code}>" for level, code in enumerate(ids.codes[0])]
    log = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [2, 4]
    report = json.loads((folder / "report.json").read_text())
    assert (report["width"], report["items"]) == (16, 1682)
    assert report["equal_features"] >= 2 * 17  # 1,664 distinct texts of 1,682 items


def test_letter_is_aligned_with_sasrec_of_its_latents_width(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, f"letter: {{preset: tiny, ids: {LETTER}}}")
    assert stage.collab is not None
    assert stage.collab.settings["hidden"] == 8
    ids, folder = made(tmp_path, stage)
    assert (ids.codes.shape, ids.content) == ((1682, 3), 3)
    line = json.loads((folder / "training.jsonl").read_text().splitlines()[-1])
    assert {"alignment", "diversity"} <= line.keys()


def test_without_alignment_letter_needs_no_collaborative_model(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, f"letter: {{ids: {LETTER.replace('{', '{alignment: 0.0, ', 1)}}}")
    assert stage.collab is None


def test_every_backbone_takes_every_kind(tmp_path: Path) -> None:
    for backbone in ("tiger", "letter"):
        (stage,) = stages(tmp_path, f"{backbone}: {{ids: {{kind: rkmeans, levels: 2, codes: 8}}}}")
        assert stage.settings["kind"] == "rkmeans"
    ids, folder = made(tmp_path, stage)
    assert ids.sizes[:2] == (8, 8)
    assert not (folder / "model.safetensors").exists()


def test_an_imported_index_is_read_as_it_is(tmp_path: Path) -> None:
    data = toy(tmp_path / "data", ["tea"] * 5)
    index = {"1": ["<a_0>", "<b_1>"], "0": ["<a_2>", "<b_1>"]} | {str(i): [1, i] for i in (2, 3, 4)}
    (tmp_path / "my.json").write_text(json.dumps(index))
    (stage,) = stages(tmp_path, "tiger: {ids: {kind: file, path: my.json}}", data=data, name="toy")
    ids, _ = made(tmp_path, stage)
    assert ids.codes.tolist() == [[2, 1], [0, 1], [1, 2], [1, 3], [1, 4]]
    assert stage.settings["path"] == "index.json"  # known by its content, not by its name
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.json").write_text(json.dumps(index))
    (moved,) = stages(tmp_path, "tiger: {ids: {kind: file, path: elsewhere/mine.json}}", data=data, name="toy")
    assert moved.key == stage.key
    (tmp_path / "elsewhere" / "mine.json").write_text(json.dumps({**index, "0": [3, 3]}))
    with pytest.raises(DataError, match=r"mine.json has changed since the run began; run it again"):
        moved.run(tmp_path, Store(tmp_path / "store"), silent)


def test_vectors_of_a_file_are_known_by_their_content(tmp_path: Path) -> None:
    data = toy(tmp_path / "data", ["tea", "cup", "pot", "can", "mug"])
    np.save(tmp_path / "x.npy", np.eye(5, dtype=np.float32))
    backbone = "tiger: {ids: {kind: rkmeans, levels: 1, codes: 5, features: 'file:x.npy'}}"
    (stage,) = stages(tmp_path, backbone, data=data, name="toy")
    ids, _ = made(tmp_path, stage)
    assert len(np.unique(ids.codes[:, 0])) == 5
    np.save(tmp_path / "x.npy", np.ones((5, 2), np.float32))
    (changed,) = stages(tmp_path, backbone, data=data, name="toy")
    assert changed.key != stage.key
    assert len(np.unique(made(tmp_path, changed)[0].codes[:, 0])) == 1


def test_released_codes_stay_as_released(tmp_path: Path) -> None:
    data = toy(tmp_path / "data", ["", "", "", ""])
    index = {str(i): ["<a_0>", "<b_1>"] for i in range(4)}
    (data / "toy" / "toy.letter_index.json").write_text(json.dumps(index))
    (stage,) = stages(tmp_path, "letter: {ids: {kind: released}}", data=data, name="toy")
    assert made(tmp_path, stage)[0].codes.tolist() == [[0, 1]] * 4


def test_items_without_text_are_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    data = toy(tmp_path / "data", ["", " ", "", ""])
    (data / "toy" / "toy.item").unlink()
    (stage,) = stages(tmp_path, "tiger", data=data, name="toy")
    with pytest.raises(DataError, match=r"toy: no item has any text.*kind: released"):
        made(tmp_path, stage)


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        ("tiger: {ids: {level: 4}}", "backbones[0].ids.level: unknown setting; did you mean 'levels'?"),
        ("letter: {ids: {clusterz: 4}}", "backbones[0].ids.clusterz: unknown setting; did you mean 'clusters'?"),
        ("tiger: {ids: {kind: rqvaee}}", "backbones[0].ids.kind: no kind 'rqvaee'; did you mean 'rqvae'?"),
        ("tiger: {ids: {levels: 0}}", "backbones[0].ids.levels: "),
        ("tiger: {ids: {alignment: 0.1}}", "backbones[0].ids.alignment: unknown setting; allowed: "),
        ("tiger: {ids: {reassign: 2}}", "reassign maps colliding items by Sinkhorn: set sinkhorn above 0"),
        ("tiger: {ids: {features: tfidf}}", "backbones[0].ids.features: did you mean 'tfidf-svd'?"),
        ("tiger: {ids: {features: 'file:x.npy'}}", "backbones[0].ids.features: "),
        ("tiger: {ids: {kind: file}}", "path is missing: give the index file"),
        ("tiger: {ids: {kind: file, path: no.json}}", "backbones[0].ids.path: there is no index file "),
        ("tiger: {ids: {kind: file, path: .}}", "backbones[0].ids.path: there is no index file "),
        ("tiger: {ids: {kind: file, path: mine.yaml}}", "backbones[0].ids.path: "),
        ("tiger: {ids: {kind: null}}", "backbones[0].ids.kind: say which"),
        (
            "letter: {ids: {latent: 33}}",
            "backbones[0].ids.latent: 33 is the width of the SASRec that codes",
        ),
        ("letter: {ids: {sinkhorn: 0.0}}", "set sinkhorn above 0 (0.003), or reassign to 0"),
        (
            "tiger: {ids: {patience: 5}}",
            "patience counts epochs between looks at all items",
        ),
        ("tiger: {ids: {batch_norm: true, batch_size: 2}}", "batch_norm needs batches of several items"),
        ("tiger: {ids: rkmeans}", "backbones[0].ids: should be an object"),
        ("tiger: {ids: 3}", "backbones[0].ids: should be an object"),
    ],
)
def test_wrong_settings_are_one_sentence_with_their_place(backbone: str, sentence: str, tmp_path: Path) -> None:
    heads = COLLAB.replace("heads: 1", "heads: 2")
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: m\ndatasets: [ml-100k]\nbackbones:\n  - {backbone}\nmethods: [sft]\ncollab: {heads}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paper_settings_of_a_backbone_survive_json() -> None:
    spec = build(Tiger, {"ids": {"kind": "letter", "hidden": [16, 8]}}, "x")
    assert (spec.ids.kind, spec.ids.tokens) == ("letter", 4)


def test_where_a_stage_computes_is_no_part_of_its_key(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, f"letter: {{ids: {LETTER}}}")
    assert stage.text is not None
    assert stage.collab is not None
    elsewhere = replace(stage.text, device="cuda"), replace(stage.collab, device="cuda")
    assert replace(stage, text=elsewhere[0], collab=elsewhere[1], device="cuda").key == stage.key
    assert stage.collab.seed == stage.settings["seed"] == 42


def test_features_of_their_own_width_are_known_by_their_content_alone(tmp_path: Path) -> None:
    data = toy(tmp_path / "data", ["tea", "cup", "pot", "can", "mug"])
    for name in ("x.npy", "y.npy"):
        np.save(tmp_path / name, np.eye(5, dtype=np.float32))
    first, second = (
        stages(tmp_path, f"tiger: {{ids: {{dim: {dim}, features: 'file:{name}'}}}}", data=data, name="toy")[0]
        for dim, name in ((8, "x.npy"), (16, "y.npy"))
    )
    assert first.key == second.key
    np.save(tmp_path / "x.npy", np.ones((5, 2), np.float32))
    assert first.text is not None
    with pytest.raises(DataError, match=r"x.npy have changed since the run began; run it again"):
        first.text.run(tmp_path, Store(tmp_path / "store"), silent)


def test_a_models_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    data = toy(tmp_path / "data", ["tea", "cup", "pot", "can", "mug"])
    backbone = "tiger: {ids: {features: 'sentence-transformers:./my model'}}"
    (stage,) = stages(tmp_path, backbone, data=data, name="toy")
    assert id_settings(stage.settings).kind == "rqvae"  # as a worker reads them


def test_checkpoints_are_gone_once_identifiers_are_published(tmp_path: Path) -> None:
    (stage,) = stages(tmp_path, f"tiger: {{ids: {FAST}}}")
    store = Store(tmp_path / "store")
    (store.work(stage) / "checkpoint.tmp").mkdir(parents=True)
    made(tmp_path, stage)
    assert not list(store.path(stage).glob("checkpoint*"))


def test_a_backbone_without_identifiers_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom rlrecbench.backbones import Backbone, backbone\n\n"
        "@backbone('bare')\n@dataclass(frozen=True)\nclass Bare(Backbone):\n    size: int = 3\n"
    )
    path = tmp_path / "mine.yaml"
    path.write_text("name: m\nplugins: [mine.py]\ndatasets: [ml-100k]\nbackbones: [bare]\nmethods: [sft]\n")
    with pytest.raises(ConfigError, match=r"backbone 'bare' needs a field 'ids: AnyIds'"):
        load(path)


def test_text_is_embedded_once_for_all_who_use_it(tmp_path: Path) -> None:
    backbones = "tiger: {as: a, ids: {dim: 16}}\n  - tiger: {as: b, ids: {dim: 16, levels: 2}}"
    found = stages(tmp_path, backbones)
    assert len(found) == 2
    assert (
        found[0].text
        == found[1].text
        == Embed(found[0].data, "tfidf-svd", dim=16, seed=42, place="tfidf-svd", device="cpu")
    )


def test_films_get_unique_identifiers_of_four_codes() -> None:
    from rlrecbench.data.prepare import DataOptions, prepare

    data = prepare("ml-100k", DataOptions(), [])
    texts = texts_of(data.items)
    ids = identify(tfidf_svd(texts, dim=64, seed=42), RKMeansIds())
    report = ids.report()
    assert ids.codes.shape == (1682, 4)
    assert (report["unique"], ids.content) == (1682, 3)
    assert report["used"][:3] == [256] * 3
    assert min(report["perplexity"][:3]) > 150  # of 256; no level collapses
    same = pd.Series(texts).groupby(texts).indices
    assert any(len(group) > 1 for group in same.values())
    for group in same.values():
        assert len(np.unique(ids.codes[group, :3], axis=0)) == 1


def test_businesses_of_equal_text_share_codes_and_strings(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    """Yelp has 1,247 businesses whose name and categories another one has too; no quantiser can tell them apart."""
    small = "levels: 2, codes: 32, dim: 16, latent: 8, epochs: 1, evaluate: 1"
    found = {}
    for ids_of in (
        f"{{kind: rqvae, {small}}}",
        f"{{kind: letter, alignment: 0.0, init: kmeans, reassign: 2, {small}}}",
    ):
        (stage,) = stages(tmp_path, f"tiger: {{ids: {ids_of}}}", data=shared_data("yelp"), name="yelp")
        ids, folder = made(tmp_path, stage)
        found[stage.settings["kind"]] = ids
        about = json.loads((folder / "report.json").read_text())
        assert about["equal_features"] >= 1_247
    texts = texts_of(stage.data.load(Store(tmp_path / "store")).items)
    groups = [group for group in pd.Series(texts).groupby(texts).indices.values() if len(group) > 1]
    assert sum(map(len, groups)) == 1_247
    for group in groups:
        assert (found["letter"].codes[group] == found["letter"].codes[group[0]]).all()
        assert (found["rqvae"].codes[group, :2] == found["rqvae"].codes[group[0], :2]).all()
    assert found["rqvae"].report()["unique"] == 20_033  # thanks to the collision code


@pytest.mark.slow
def test_beauty_identifiers_from_text(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    data = shared_data("beauty")
    (stage,) = stages(tmp_path, "tiger: {ids: {kind: rkmeans}}", data=data, name="beauty")
    report = made(tmp_path, stage)[0].report()
    assert report["unique"] == 12_101
    assert report["prefixes"][2] > 8_500  # distinct before the collision code
    assert report["sizes"][3] < 40
