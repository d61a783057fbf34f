"""``rlrecbench show identifiers [PLACE]``: how codes are used, what collides, whether neighbours share prefixes."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrecbench.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]
WIDTH = 100
ABSENT = "—"
_SPAN = len("-0.0000 [-0.0000, -0.0000]")


def collect(place: Path | None, dataset: str | None, data_dir: Path | None, content: int | None) -> list[Json]:
    """Read or compute the figures about identifiers.

    Args:
        place: A results folder or an index file; None: all results folders below ``results``.
        dataset: The data set of an index file; with it, agreement is measured.
        data_dir: Folder of data sets, looked at first.
        content: Leading levels of an index file that say what the item is; None: all of them.

    Returns:
        For each index what ``report.json`` holds, and its ``place``.

    Raises:
        StoreError: There are no identifiers, or a report is broken.
        DataError: The index file or the data set is missing or broken.
        ConfigError: An option for index files is given with a folder.
    """
    if place is not None and not place.is_dir():
        return [_measured(place, dataset, data_dir, content)]
    if dataset is not None or content is not None:
        option = "--dataset" if dataset is not None else "--content"
        raise ConfigError(f"{option} is for an index file; a results folder knows its data sets and codes")
    folders = [place] if place is not None else sorted(p.parent for p in Path("results").glob("*/identifiers"))
    found = [report for folder in folders for report in _reports(folder)]
    if not found:
        where = str(place) if place is not None else "no folder below results"
        raise StoreError(
            f"{where} {'has no' if place is not None else 'has'} identifiers/<data set>/<backbone>/report.json; give "
            "the results folder of a finished run with a backbone, or an index file (.json or .json.gz)"
        )
    return found


def draw(reports: Sequence[Json]) -> None:
    """Print tables: for each place and data set one of the indices, and one of their levels."""
    from rich.console import Console

    console = Console()
    console = Console(width=min(console.width, WIDTH) if console.is_terminal else WIDTH)
    for (place, dataset), group in groupby(reports, key=lambda r: (r["place"], r["dataset"])):
        rows = list(group)
        title = f"{dataset} · {place}" if dataset else place
        console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        for part in (_indices(rows), _levels(rows), "\n".join(_notes(rows))):
            console.print(part, markup=False, highlight=False)
            console.print()


def _reports(results: Path) -> list[Json]:
    """The reports in a results folder, in suite order."""
    found = []
    for path in sorted(results.glob("identifiers/*/*/report.json")):
        try:
            report = json.loads(path.read_text())
            missing = {"dataset", "backbone", "kind", "collisions", "agreement", "difference"} - set(report)
        except (OSError, ValueError, TypeError) as e:
            raise StoreError(f"{path} cannot be read ({e}); remove it and run the suite again") from e
        if missing:
            raise StoreError(f"{path} does not say {', '.join(sorted(missing))}; remove it and run the suite again")
        found.append({"place": str(results), **report})
    try:
        suite = json.loads((results / "suite.json").read_text())
        order = {kind: [entry["label"] for entry in suite[kind]] for kind in ("datasets", "backbones")}
    except (OSError, ValueError, KeyError, TypeError):
        return found

    def rank(report: Json) -> list[int]:
        labels = (order["datasets"], report["dataset"]), (order["backbones"], report["backbone"])
        return [names.index(name) if name in names else len(names) for names, name in labels]

    return sorted(found, key=rank)


def _measured(path: Path, dataset: str | None, data_dir: Path | None, content: int | None) -> Json:
    """The figures about an index file."""
    from rlrecbench.identifiers import index
    from rlrecbench.identifiers.agreement import Pairs, agreement
    from rlrecbench.identifiers.summary import summary

    item_ids, found = None, None
    if dataset is not None:
        from rlrecbench.data.datasets import data_dirs
        from rlrecbench.data.prepare import DataOptions, prepare

        data = prepare(dataset, DataOptions(), data_dirs(data_dir))
        item_ids = data.items["item_id"].astype(str).tolist()
    ids = index.read(path, item_ids, content=content if content is not None else _content_of(path))
    if dataset is not None:
        found = agreement(ids, Pairs.of(data.valid))
    about = {"place": str(path), "dataset": dataset, "backbone": None, "kind": "file"}
    return {**about, **summary(ids, found), "difference": None}


def _content_of(path: Path) -> int | None:
    """What the report beside an index file that a run wrote says of its collision code."""
    try:
        report = json.loads((path.parent / "report.json").read_text())
        return int(report["content"]) if path.name == "index.json" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _indices(rows: Sequence[Json]) -> "Table":
    """One row per index: what it is and what collides."""
    table = _grid()
    names = any(r["backbone"] for r in rows)
    if names:
        table.add_column("backbone", overflow="fold", max_width=24)
    for head in ("kind", "codes"):
        table.add_column(head, overflow="fold")
    for head in ("items", "distinct", "collision rate", "in groups", "biggest"):
        table.add_column(head, justify="right", no_wrap=True)
    for r in rows:
        c = r["collisions"]
        figures = [f"{c['distinct']:,}", f"{100 * c['rate']:.3g} %", f"{c['items']:,}", f"{c['biggest_group']:,}"]
        table.add_row(*([r["backbone"]] if names else []), r["kind"], _codes(r), f"{r['items']:,}", *figures)
    return table


def _levels(rows: Sequence[Json]) -> "Table":
    """One row per index and level: the use of its codes, and how far the prefixes up to it agree."""
    table = _grid()
    names, agree = any(r["backbone"] for r in rows), any(r["agreement"] for r in rows)
    first = next((r["difference"]["backbone"] for r in rows if r["difference"]), None)
    table.add_column("level", overflow="fold", max_width=16)
    for head in ("used", "perplexity", "prefixes"):
        table.add_column(head, justify="right", no_wrap=True)
    if agree:
        table.add_column("κ [95 %]", justify="right", no_wrap=True)
    if agree and first:
        table.add_column(f"Δκ to {first}", justify="right", overflow="fold", min_width=_SPAN, max_width=_SPAN)
    for i, r in enumerate(rows):
        if i:
            table.add_section()
        if names:
            table.add_row(r["backbone"])
        for n in range(len(r["sizes"])):
            level = "+" if n >= r["content"] else str(n + 1)
            cells = [f"  {level}" if names else level, f"{r['used'][n]:,}", f"{r['perplexity'][n]:,.1f}"]
            cells.append(f"{r['prefixes'][n]:,}")
            if agree:
                cells.append(_span(_at(r["agreement"], n), "kappa", ""))
            if agree and first:
                cells.append(_span(_at(r["difference"], n), "difference", "+"))
            table.add_row(*cells)
    return table


def _notes(rows: Sequence[Json]) -> list[str]:
    """How to read the tables."""
    bare = any(r["content"] < len(r["sizes"]) for r in rows)
    out = [
        "Collision rate: 1 - distinct / items. In groups: items that share their codes; biggest: of these groups"
        f"{'; all without the collision code (+)' if bare else ''}."
    ]
    found = next((r["agreement"] for r in rows if r["agreement"]), None)
    if found:
        out.append(
            "κ: how often the newest history item and the target share their codes up to this level, 0 as by chance, 1 "
            f"always; {found['pairs']:,} validation pairs, bootstrap over {found['users']:,} users."
        )
    return out


def _at(measured: Json | None, n: int) -> Json | None:
    """The entry of a prefix length; None where there is none."""
    prefixes = measured["prefixes"] if measured else []
    return prefixes[n] if n < len(prefixes) else None


def _span(entry: Json | None, key: str, sign: str) -> str:
    """A value with its interval, four decimals."""
    if entry is None or entry[key] is None:
        return ABSENT
    value, low, high = (round(entry[k], 4) + 0.0 for k in (key, "low", "high"))  # + 0.0: no minus before a zero
    return f"{value:{sign}.4f} [{low:.4f}, {high:.4f}]"


def _codes(report: Json) -> str:
    """Sizes of the codebooks: "3 x 256 + 7", the last being the collision code's."""
    sizes, n = report["sizes"], report["content"]
    runs = [(size, len(list(same))) for size, same in groupby(sizes[:n])]
    text = ", ".join(f"{count} x {size}" if count > 1 else str(size) for size, count in runs)
    return " + ".join([text, *map(str, sizes[n:])])


def _grid() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
