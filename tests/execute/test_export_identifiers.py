"""What a run leaves about its identifiers: index files, figures, pictures, and no work twice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from rlrecbench.errors import StoreError
from rlrecbench.execute.identifiers import export_identifiers
from rlrecbench.identifiers import Identifiers, index
from rlrecbench.identifiers.agreement import Pairs, agreement
from rlrecbench.stages import Identify
from rlrecbench.store import Store, closure
from rlrecbench.suite import Cell, expand, load

USERS, ITEMS, GROUPS = 60, 24, 4
RKMEANS = "{kind: rkmeans, levels: 2, codes: 4, dim: 8}"
RQVAE = "{kind: rqvae, levels: 2, codes: 4, dim: 8, latent: 4, epochs: 4, evaluate: 2}"
SUITE = f"""
name: toy
datasets: [toy]
backbones:
  - tiger: {{preset: tiny, ids: {RKMEANS}}}
  - tiger: {{preset: tiny, as: trained, ids: {RQVAE}}}
  - tiger: {{preset: tiny, as: same, ids: {RKMEANS}}}
  - tiger: {{preset: tiny, as: made, ids: {{kind: file, path: made.json, codes: 8, content: 1}}}}
methods: [most-popular, sft]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite and its data: items of four kinds, users who mostly stay with one kind."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy").mkdir()
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(USERS):
        kind = rng.integers(GROUPS)
        for time in range(6):
            kind = rng.integers(GROUPS) if rng.random() < 0.3 else kind
            lines.append(f"u{user}\ti{GROUPS * rng.integers(ITEMS // GROUPS) + kind}\t{time}")
    (folder / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    items = [f"i{i}\tkind{i % GROUPS} word{i % 5} thing{i}" for i in range(ITEMS)]
    (folder / "toy" / "toy.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n")
    made = {f"i{i}": [f"<a_{i % GROUPS}>", f"<b_{i // GROUPS}>"] for i in range(ITEMS)}
    (folder / "made.json").write_text(json.dumps(made))
    (folder / "x.yaml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def cells(place: Path) -> list[Cell]:
    """The cells of the suite."""
    return expand(load(place / "x.yaml"), [place], device="cpu")


@pytest.fixture(scope="module")
def store(place: Path, cells: list[Cell]) -> Store:
    """A store with all identifiers and nothing that was trained on them."""
    store = Store(place / "store")
    for stage in closure([identify(cells, b) for b in ("tiger", "trained", "made")]):
        store.ensure(stage)
    return store


def identify(cells: list[Cell], backbone: str) -> Identify:
    train = next(c for c in cells if c.backbone == backbone).score.rank.train
    assert train is not None
    return train.ids


def report(results: Path, backbone: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / "identifiers/toy" / backbone / "report.json").read_text())
    return found


def test_every_backbone_gets_its_index_and_its_figures(cells: list[Cell], store: Store, tmp_path: Path) -> None:
    assert export_identifiers(cells, tmp_path, store) == [tmp_path / "identifiers" / "toy.png"]
    names = sorted(str(p.relative_to(tmp_path / "identifiers")) for p in (tmp_path / "identifiers").rglob("*.*"))
    assert names == [
        "toy.png",
        *(f"toy/{b}/{name}.json" for b in ("made", "same", "tiger") for name in ("index", "report")),
        *(f"toy/trained/{name}" for name in ("index.json", "report.json", "training.jsonl")),
    ]
    data = identify(cells, "tiger").data.load(store)
    for backbone in ("tiger", "trained", "same", "made"):
        stage = identify(cells, backbone)
        ids, found = Identifiers.read(store.path(stage)), report(tmp_path, backbone)
        again = index.read(
            tmp_path / "identifiers/toy" / backbone / "index.json", data.items["item_id"].tolist(), content=ids.content
        )
        assert (again.codes == ids.codes).all()
        measured = agreement(ids, Pairs.of(data.valid))
        assert measured is not None
        assert found["agreement"] == json.loads(json.dumps(measured.as_json()))
        assert (found["kind"], found["stage"], found["items"]) == (stage.settings["kind"], stage.key, ITEMS)
        assert (found["dataset"], found["backbone"], found["settings"]) == ("toy", backbone, stage.settings)
        content = ids.codes[:, : ids.content]
        groups = np.unique(content, axis=0, return_counts=True)[1]
        assert found["collisions"] == {
            "distinct": len(groups),
            "rate": 1 - len(groups) / ITEMS,
            "items": groups[groups > 1].sum(),
            "biggest_group": groups.max(),
        }
    made = report(tmp_path, "made")
    assert (made["collisions"]["distinct"], made["collisions"]["biggest_group"]) == (GROUPS, ITEMS // GROUPS)
    assert made["agreement"]["prefixes"][0]["low"] > 0  # the kinds are what users stay with


def test_the_first_backbone_is_what_the_others_are_compared_with(
    cells: list[Cell], store: Store, tmp_path: Path
) -> None:
    export_identifiers(cells, tmp_path, store)
    tiger, made, same = (report(tmp_path, b) for b in ("tiger", "made", "same"))
    assert tiger["difference"] is None
    assert made["difference"]["backbone"] == "tiger"
    (first,) = made["difference"]["prefixes"]
    a, b = (r["agreement"]["prefixes"][0]["kappa"] for r in (made, tiger))
    assert first["difference"] == pytest.approx(a - b)
    assert first["low"] < first["difference"] < first["high"]
    assert [(p["difference"], p["low"], p["high"]) for p in same["difference"]["prefixes"]] == [(0, 0, 0)] * 2


def test_the_picture_shows_something(cells: list[Cell], store: Store, tmp_path: Path) -> None:
    (picture,) = export_identifiers(cells, tmp_path, store)
    pixels = imread(picture)
    assert pixels.shape[0] > 600
    assert pixels.shape[1] > 600
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73), (0xCC, 0x79, 0xA7)):
        assert (np.abs(pixels[..., :3] * 255 - colour).max(-1) < 2).sum() > 50  # each backbone has its colour


def test_nothing_is_written_again_until_a_stage_changes(cells: list[Cell], store: Store, tmp_path: Path) -> None:
    def times() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (tmp_path / "identifiers").rglob("*.*")}

    export_identifiers(cells, tmp_path, store)
    before = times()
    assert export_identifiers(cells, tmp_path, store) == [tmp_path / "identifiers" / "toy.png"]
    assert times() == before
    path = tmp_path / "identifiers/toy/same/report.json"
    path.write_text(json.dumps({**report(tmp_path, "same"), "stage": "another"}))
    export_identifiers(cells, tmp_path, store)
    assert report(tmp_path, "same")["stage"] == identify(cells, "same").key
    (tmp_path / "identifiers" / "toy.png").unlink()  # as after a kill half-way
    assert export_identifiers(cells, tmp_path, store)[0].is_file()


def test_what_is_not_done_is_left_out_and_comes_when_it_is(
    cells: list[Cell], place: Path, store: Store, tmp_path: Path
) -> None:
    """Only the last backbone is done first: it is its own reference until the one before it is."""
    late = Store(tmp_path / "store")
    results = tmp_path / "results"
    assert export_identifiers(cells, results, late) == []
    assert not results.exists()
    for stage in closure([identify(cells, "made")]):
        late.ensure(stage)
    export_identifiers(cells, results, late)
    assert report(results, "made")["difference"] is None
    for stage in closure([identify(cells, "tiger")]):
        late.ensure(stage)
    export_identifiers(cells, results, late)
    assert report(results, "made")["difference"]["backbone"] == "tiger"
    assert not (results / "identifiers/toy/trained").exists()


def test_another_first_backbone_makes_other_differences(cells: list[Cell], store: Store, tmp_path: Path) -> None:
    """There and back again: the first one's own report is still right, the others' is not."""
    for first in ("tiger", "trained", "tiger"):
        export_identifiers([c for c in cells if c.backbone in (first, "made")], tmp_path, store)
        assert report(tmp_path, "made")["difference"]["backbone"] == first
        assert report(tmp_path, first)["difference"] is None


def test_what_a_suite_no_longer_has_is_removed(cells: list[Cell], store: Store, place: Path, tmp_path: Path) -> None:
    """The trained backbone becomes residual k-means, the imported one goes, then all of them are others."""
    export_identifiers(cells, tmp_path, store)
    folder = tmp_path / "identifiers" / "toy"
    assert (folder / "trained" / "training.jsonl").exists()
    text = (place / "x.yaml").read_text()
    (place / "y.yaml").write_text("\n".join(x for x in text.replace(RQVAE, RKMEANS).splitlines() if "made" not in x))
    export_identifiers(expand(load(place / "y.yaml"), [place], device="cpu"), tmp_path, store)
    assert sorted(p.name for p in folder.iterdir()) == ["same", "tiger", "trained"]
    assert report(tmp_path, "trained")["kind"] == "rkmeans"
    assert not (folder / "trained" / "training.jsonl").exists()
    (place / "y.yaml").write_text(text.replace("dim: 8", "dim: 6").replace("content: 1", "content: 2"))
    assert export_identifiers(expand(load(place / "y.yaml"), [place], device="cpu"), tmp_path, store) == []
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(cells: list[Cell], store: Store, tmp_path: Path) -> None:
    (tmp_path / "identifiers").write_text("")
    with pytest.raises(StoreError, match=r"identifiers.* cannot be written"):
        export_identifiers(cells, tmp_path, store)
