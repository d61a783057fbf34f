"""Which published row a record stands for: by method, start and settings, never by its label."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from rlrecbench.published.facts import find
from rlrecbench.published.variants import VARIANTS, Variant
from rlrecbench.results import NO_BACKBONE, Json, Record, Results

_MISSING = object()


class Reason(NamedTuple):
    """Why two numbers do not compare."""

    key: str  # kind of reason
    text: str  # a short sentence


class Match(NamedTuple):
    """A published row that a record stands for."""

    variant: Variant
    dataset: str  # registered name
    backbone: str  # name in published.csv
    remarks: tuple[Reason, ...]  # in what settings and start differ from the paper's


def match(results: Results, record: Record) -> list[Match]:
    """Return the published rows that a record stands for, in the order of the papers' tables.

    None for a record whose method is no longer in the suite: where it started is not known.
    """
    entry = entry_of(results.suite, "methods", record.method)
    dataset = name_of(results.suite, "datasets", record.dataset)
    if entry is None or record.provenance.get("method") != entry["name"]:
        return []
    written, budget = _written(results.suite, record, entry), record.provenance.get("budget") or {}
    settings = {k: v for k, v in written.items() if k not in budget} | record.provenance.get("settings", {})
    backbone = None if record.backbone == NO_BACKBONE else name_of(results.suite, "backbones", record.backbone)
    out = []
    for variant in VARIANTS:
        published = _place(variant, dataset, backbone) if variant.method == entry["name"] else None
        if published is None:
            continue
        remarks = _settings(variant, settings, written)
        begun = _start(results.suite, record, entry, variant, budget)
        if remarks is not None and begun is not None:
            out.append(Match(variant, dataset, published, (*remarks, *begun)))
    return out


def entry_of(suite: Json, kind: str, label: str) -> Json | None:
    """Return what the suite says of a data set, a backbone or a method."""
    return next((entry for entry in suite[kind] if entry["label"] == label), None)


def name_of(suite: Json, kind: str, label: str) -> str:
    """Return the registered name behind a label; the label where the suite does not have it."""
    entry = entry_of(suite, kind, label)
    return label if entry is None else str(entry["name"])


def start_of(entry: Json, variant: Variant) -> str:
    """Return the label of what a method continues from or ranks with; "base": the untrained backbone, or nothing.

    Every method of the papers' tables starts by default where its published row does, with BIGRec in Flower's place.
    """
    return str(entry.get("start") or ("base" if variant.start is None else "sft"))


def _place(variant: Variant, dataset: str, backbone: str | None) -> str | None:
    """Return the backbone beside which the row is published for the data set; None if it is not."""
    if variant.datasets and dataset not in variant.datasets:
        return None
    names = variant.backbones if backbone is None else (backbone,) if backbone in variant.backbones else ()
    return next((name for name in names if find(dataset, name, variant.published)), None)


def _written(suite: Json, record: Record, entry: Json) -> Json:
    """Return what the suite writes for a method in a record's cell, overrides and budget included."""
    cell = {"dataset": record.dataset, "backbone": record.backbone, "method": entry["label"], "seed": record.seed}
    out = dict(entry.get("settings") or {})
    for override in suite.get("overrides", []):
        when = override["when"]
        if all(cell.get(k) in (v if isinstance(v, list) else [v]) for k, v in when.items()):
            out |= override["set"]
    return out


def _settings(variant: Variant, settings: Mapping[str, Any], written: Collection[str]) -> tuple[Reason, ...] | None:
    """Compare settings; None: they are another row's, or nobody's."""
    if not all(_same(settings.get(key, _MISSING), value) for key, value in variant.holds.items()):
        return None
    out = []
    for key, value in settings.items():
        if key in variant.holds:
            continue
        allowed = variant.allows.get(key)
        if allowed is None:
            if key in written:
                return None
        elif not any(_same(value, v) for v in allowed.published):
            if allowed.ours is not None and not any(_same(value, v) for v in allowed.ours):
                return None
            out.append(f"{key} {_show(value)} (published: {_show(allowed.published[0])})")
    return (Reason("settings", f"{variant.method}: {', '.join(out)}."),) if out else ()


def _start(
    suite: Json, record: Record, entry: Json, variant: Variant, budget: Collection[str]
) -> tuple[Reason, ...] | None:
    """Compare where training starts; None: elsewhere."""
    label = start_of(entry, variant)
    if label == "base":
        return () if variant.start is None else None
    start = entry_of(suite, "methods", label) or {"name": label, "label": label}
    written = _written(suite, record, start)
    settings = {k: v for k, v in written.items() if k not in budget}
    dataset = name_of(suite, "datasets", record.dataset)
    for wanted in VARIANTS:
        if wanted.published not in (variant.start, *variant.also_from) or wanted.method != start["name"]:
            continue
        if not set(wanted.backbones) & set(variant.backbones) or (wanted.datasets and dataset not in wanted.datasets):
            continue
        # A start's settings are known as the suite writes them: what makes it this row may be a default.
        remarks = _settings(wanted, {**wanted.holds, **settings}, written)
        begun = _start(suite, record, start, wanted, budget)
        if remarks is None or begun is None:
            continue
        remark = variant.also_from.get(wanted.published)
        return (*((Reason("start", remark),) if remark else ()), *remarks, *begun)
    return None


def _same(value: Any, other: Any) -> bool:
    """Tell whether two settings are equal; lists are sets of names, and True is not 1."""
    if isinstance(value, list) and isinstance(other, list):
        return set(value) == set(other)
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _show(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else str(value)
