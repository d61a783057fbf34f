"""What the identifiers of a run are worth, beside its records: index files, figures and a picture per data set.

``results/<suite>/identifiers/<dataset>/<backbone>/`` holds ``index.json`` (LETTER's format), ``training.jsonl`` where
codes were trained, and ``report.json``, written last; ``identifiers/<dataset>.png`` shows all backbones.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from rlrecbench.identifiers import Identifiers, index
from rlrecbench.identifiers.agreement import Agreement, Pairs, agreement, compare
from rlrecbench.identifiers.summary import summary
from rlrecbench.stages import Identify
from rlrecbench.store import Store, unwritable, write_atomic
from rlrecbench.suite import Cell

Json = dict[str, Any]


def export_identifiers(cells: Sequence[Cell], results: Path, store: Store) -> list[Path]:
    """Write what is known of the identifiers that are done; nothing is computed where it is there already.

    Args:
        cells: All cells of a suite, those not asked for too: the first backbone of a data set is what the others
            are compared with.
        results: The results folder.
        store: Where the stages are.

    Returns:
        The pictures, one per data set that has identifiers.

    Raises:
        StoreError: The results folder cannot be written.
    """
    pictures = []
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        here = [c for c in cells if c.dataset == dataset]
        _export_titles(dataset, here, results, store)
        stages = _stages(here, store)
        folder = results / "identifiers" / dataset
        picture = folder.with_name(f"{dataset}.png")
        if _drop_stale(
            {c.backbone: t.ids.key for c in here if (t := c.score.rank.train) is not None and _codes(t.ids)}, folder
        ):
            picture.unlink(missing_ok=True)
        if stages and not _is_current(stages, folder, picture):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(results / ".lock"):
                    if not _is_current(stages, folder, picture):  # another run may have been quicker
                        _export(dataset, stages, folder, picture, store)
            except OSError as e:
                raise unwritable(folder, e) from e
        if picture.is_file():
            pictures.append(picture)
    return pictures


def _drop_stale(keys: dict[str, str], folder: Path) -> bool:
    """Remove what belongs to other backbones, or to other identifiers of the same ones; whether there was any."""
    stale = False
    for report in folder.glob("*/report.json"):
        try:
            key = json.loads(report.read_text()).get("stage")
        except (OSError, ValueError, AttributeError):
            key = None
        if key is None or keys.get(report.parent.name) != key:
            shutil.rmtree(report.parent, ignore_errors=True)
            stale = True
    return stale


def _stages(cells: Sequence[Cell], store: Store) -> dict[str, Identify]:
    """The published identifiers of one data set by backbone, in suite order."""
    found: dict[str, Identify] = {}
    for cell in cells:
        train = cell.score.rank.train
        if train is not None and _codes(train.ids) and store.intact(train.ids) and store.intact(train.ids.data):
            found.setdefault(cell.backbone, train.ids)
    return found


def _codes(stage: Identify) -> bool:
    return bool(stage.settings["kind"] != "titles")


def _export_titles(dataset: str, cells: Sequence[Cell], results: Path, store: Store) -> None:
    """Write how titles became tokens, how long prompts are and how many lost titles: ``<backbone>/titles.json``."""
    made = {c.backbone: t.ids for c in cells if (t := c.score.rank.train) is not None and not _codes(t.ids)}
    for backbone, stage in made.items():
        target = results / "identifiers" / dataset / backbone / "titles.json"
        if store.intact(stage):
            text = (store.path(stage) / "titles.json").read_text()
            if not target.is_file() or target.read_text() != text:
                write_atomic(target, text)


def _is_current(stages: dict[str, Identify], folder: Path, picture: Path) -> bool:
    """Whether the picture is there and all reports are of these stages and compared with the first of them."""
    if not picture.is_file():
        return False
    first, *_ = ((backbone, stage.key) for backbone, stage in stages.items())
    try:
        reports = [json.loads((folder / backbone / "report.json").read_text()) for backbone in stages]
        made = [r["stage"] for r in reports]
        against = {(r["difference"]["backbone"], r["difference"]["stage"]) for r in reports[1:]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return made == [s.key for s in stages.values()] and against <= {first} and reports[0]["difference"] is None


def _export(dataset: str, stages: dict[str, Identify], folder: Path, picture: Path, store: Store) -> None:
    """Write the folders of one data set and its picture."""
    from rlrecbench.identifiers.picture import Portrait, draw  # matplotlib takes a second to import

    picture.unlink(missing_ok=True)  # last of all it is drawn again, so with it everything is there
    data = next(iter(stages.values())).data.load(store)
    item_ids, pairs = data.items["item_id"].astype(str).tolist(), Pairs.of(data.valid)
    measured: dict[str, Agreement | None] = {}  # backbones may share a stage
    portraits = []
    for backbone, stage in stages.items():
        source, target = store.path(stage), folder / backbone
        ids = Identifiers.read(source)
        if stage.key not in measured:
            measured[stage.key] = agreement(ids, pairs)
        log = source / "training.jsonl"
        training = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
        index.write(ids, item_ids, target / "index.json")
        if training:
            write_atomic(target / "training.jsonl", log.read_text())
        report = {
            "dataset": dataset,
            "backbone": backbone,
            "kind": stage.settings["kind"],
            "settings": stage.settings,
            "stage": stage.key,
            **json.loads((source / "report.json").read_text()),
            **summary(ids, measured[stage.key]),
            "difference": _difference(backbone, stages, measured),
        }
        write_atomic(target / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        portraits.append(Portrait(backbone, ids, measured[stage.key], training))
    draw(dataset, portraits, picture)


def _difference(backbone: str, stages: dict[str, Identify], measured: dict[str, Agreement | None]) -> Json | None:
    """Kappa of a backbone's codes minus that of the first backbone's; None for that one itself."""
    first = next(iter(stages))
    if backbone == first:
        return None
    mine, other = measured[stages[backbone].key], measured[stages[first].key]
    prefixes = compare(mine, other) if mine is not None and other is not None else ()
    return {"backbone": first, "stage": stages[first].key, "prefixes": [asdict(p) for p in prefixes]}
