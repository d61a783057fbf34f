"""A suite: one YAML file, checked, and expanded into cells and their stages."""

import copy
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from rlrecbench import registry
from rlrecbench.backbones import Backbone, backbones
from rlrecbench.collab import SASRec
from rlrecbench.config import Count, Positive, Weight, build, nearest, parse_yaml, plain, read_yaml, short, shown
from rlrecbench.data.datasets import checksum, locate, spec_of
from rlrecbench.data.prepare import DataOptions
from rlrecbench.errors import BenchError, ConfigError, DataError, UnknownNameError
from rlrecbench.identifiers import (
    AnyIds,
    FileIds,
    LetterIds,
    ReleasedIds,
    RKMeansIds,
    TitleIds,
    features,
    index,
    models,
    portable_ids,
)
from rlrecbench.method import FineTune, Ranker, check_declarations, methods
from rlrecbench.metrics import parse
from rlrecbench.stages import Collaborate, Embed, Identify, Prepare, Rank, Score, Train
from rlrecbench.stats import BEST, StatsConfig
from rlrecbench.train.budget import Budget

Json = dict[str, Any]
NO_BACKBONE = "none"
DEFAULT_METRICS = (
    "recall@5", "recall@10", "ndcg@5", "ndcg@10", "dgu@10", "mgu@10", "entropy@10", "ttr@10",
)  # fmt: skip
_BUDGET = tuple(f.name for f in dataclasses.fields(Budget))
_TEXT = RKMeansIds()  # the text features that methods see


@dataclass(frozen=True)
class Pace:
    """Settings of ``train:`` that change how fast, not what: they are outside every identity."""

    micro_batch: Count | None = None  # prompts per forward pass; none: the whole batch
    checkpoint_minutes: Positive = 5.0  # minutes between checkpoints
    processes: Count = 1  # that train one cell together, each on a GPU of its own, or on its share of the cores


@dataclass(frozen=True)
class RankSettings:
    """How lists are made."""

    beams: Count = 20  # width of the trie search; LETTER
    length_penalty: Weight = 0.0  # a path's score is divided by its tokens to this power; 0 as D3, BIGRec has 1
    k: Count = 10  # length of the lists
    batch: Count = 128  # prompts per pass; changes how fast, not what


@dataclass(frozen=True)
class Override:
    """Settings for some cells only."""

    when: dict[str, str | int | tuple[str | int, ...]]
    set: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One line of ``datasets:``, ``backbones:`` or ``methods:``.

    Attributes:
        name: Registered name.
        label: Name of its folder and row: ``as``, else the name.
        settings: What the suite writes, ``as`` and ``start`` taken out.
        where: Place in the file, for errors.
        start: A method's start, if the suite gives one.
    """

    name: str
    label: str
    settings: Json
    where: str
    start: str | None = None


@dataclass(frozen=True)
class Suite:
    """A checked suite."""

    name: str
    path: Path
    seeds: tuple[int, ...]
    datasets: tuple[Entry, ...]
    backbones: tuple[Entry, ...]
    methods: tuple[Entry, ...]
    train: Json
    pace: Pace
    rank: RankSettings
    collab: Json
    metrics: tuple[str, ...]
    stats: StatsConfig
    overrides: tuple[Override, ...]
    plugins: tuple[Path, ...]

    def as_json(self) -> Json:
        """The resolved suite, as kept in ``suite.json``."""
        out: Json = plain(self)
        for key in ("path", "pace"):
            del out[key]
        out["plugins"] = [p.name for p in self.plugins]
        for kind in ("datasets", "backbones", "methods"):
            for entry in out[kind]:
                del entry["where"]
        return out


@dataclass(frozen=True)
class Cell:
    """One row of one seed: dataset x backbone x method x seed."""

    dataset: str
    backbone: str
    method: str
    seed: int
    score: Score

    def folder(self, results: Path) -> Path:
        """Where the cell's record stands."""
        return results / "cells" / self.dataset / self.backbone / self.method / f"seed-{self.seed}"

    @property
    def name(self) -> str:
        """How messages name the cell."""
        return f"{self.dataset}/{self.backbone}/{self.method} seed {self.seed}"


@dataclass(frozen=True)
class _Top:
    """The keys at the top of a suite file."""

    name: str
    datasets: list[Any]
    methods: list[Any]
    seeds: tuple[int, ...] = (42,)
    backbones: list[Any] = dataclasses.field(default_factory=list)
    train: Json = dataclasses.field(default_factory=dict)
    rank: Json = dataclasses.field(default_factory=dict)
    collab: Json = dataclasses.field(default_factory=dict)
    metrics: tuple[str, ...] = DEFAULT_METRICS
    stats: Json = dataclasses.field(default_factory=dict)
    overrides: list[Any] = dataclasses.field(default_factory=list)
    plugins: list[str] = dataclasses.field(default_factory=list)


def find(suite: str) -> Path:
    """Return the path of a suite: a file, or the bare name of a built-in one.

    Raises:
        ConfigError: There is neither.
    """
    import rlrecbench.suites

    path = Path(suite)
    if path.suffix in (".yaml", ".yml") or path.exists():
        if not path.is_file():
            what = "is a folder, not a suite file" if path.is_dir() else "does not exist"
            raise ConfigError(f"suite file {suite or repr(suite)} {what}; built-in suites: {', '.join(builtin())}")
        return path
    folder = Path(rlrecbench.suites.__path__[0])
    if suite in builtin():
        return folder / f"{suite}.yaml"
    raise UnknownNameError(f"no suite {suite!r}; {nearest(suite, builtin())} (rlrecbench list suites)")


def builtin() -> list[str]:
    """Names of the suites that come with the package."""
    import rlrecbench.suites

    folder = Path(rlrecbench.suites.__path__[0])
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def load(path: Path, sets: Sequence[str] = ()) -> Suite:
    """Read and check a suite without reading data.

    Args:
        path: The file.
        sets: ``key=value`` changes, dotted: ``train.epochs=1``, ``methods.dpo.beta=0.5``.

    Raises:
        ConfigError: Anything in it is wrong; the message names the place.
    """
    raw = read_yaml(path)
    for change in sets:
        _set(raw, change)
    where = str(path)
    top = build(_Top, raw, where)
    if not registry.is_name(top.name):
        raise ConfigError(f"{where}: name: {shown(top.name)} must be {registry.NAMES}")
    registry.load([path.parent / p for p in top.plugins])
    plugins = tuple((path.parent / p).resolve() for p in top.plugins)
    if not top.seeds or len(set(top.seeds)) < len(top.seeds) or min(top.seeds) < 0:
        raise ConfigError(f"{where}: seeds: give at least one, each >= 0 and only once, found {list(top.seeds)}")
    train = dict(top.train)
    pace = {f.name: train.pop(f.name) for f in dataclasses.fields(Pace) if f.name in train}
    build(Budget, train, f"{where}: train")
    suite = Suite(
        name=top.name,
        path=path,
        seeds=top.seeds,
        datasets=_entries(top.datasets, f"{where}: datasets"),
        backbones=_entries(top.backbones, f"{where}: backbones"),
        methods=_entries(top.methods, f"{where}: methods"),
        train=train,
        pace=build(Pace, pace, f"{where}: train"),
        rank=build(RankSettings, top.rank, f"{where}: rank"),
        collab=plain(build(SASRec, top.collab, f"{where}: collab")),
        metrics=tuple(top.metrics),
        stats=build(StatsConfig, top.stats, f"{where}: stats"),
        overrides=tuple(build(Override, o, f"{where}: overrides[{i}]") for i, o in enumerate(top.overrides)),
        plugins=plugins,
    )
    _check(suite)
    return suite


def expand(
    suite: Suite,
    dirs: Sequence[Path],
    *,
    device: str = "auto",
    limit_users: int | None = None,
    tracking: Json | None = None,
) -> list[Cell]:
    """Expand a suite into cells; data files are read for their checksums.

    Args:
        suite: What to run.
        dirs: Where data sets are looked for.
        device: "auto", "cpu" or "cuda".
        limit_users: Rank and score only the first test rows.
        tracking: ``trackers`` that follow every training, and their ``folder``; None: none.

    Raises:
        DataError: A data set is missing.
    """
    return [cell for d in suite.datasets for cell in _Expansion(suite, d, dirs, device, limit_users, tracking).cells()]


class _Expansion:
    """The stages of one data set."""

    def __init__(
        self,
        suite: Suite,
        dataset: Entry,
        dirs: Sequence[Path],
        device: str,
        limit_users: int | None,
        tracking: Json | None,
    ) -> None:
        self.suite, self.dataset, self.dirs = suite, dataset, tuple(str(d.resolve()) for d in dirs)
        self.device, self.limit_users, self.tracking = device, limit_users, tracking
        try:
            folder = locate(dataset.name, dirs)
        except BenchError as e:
            raise DataError(f"{dataset.where}: {e}") from e
        options = plain(build(DataOptions, dataset.settings, dataset.where))
        options["max_history"] = options["max_history"] or spec_of(dataset.name, dirs).max_history
        self.data = Prepare(dataset.name, options, checksum(dataset.name, folder), self.dirs)
        self.folder = folder

    def cells(self) -> list[Cell]:
        """All cells of the data set, in suite order."""
        out = []
        for backbone in self.suite.backbones or ():
            for entry in self.suite.methods:
                if methods[entry.name].generative:
                    out += [self._cell(backbone, entry, seed) for seed in self.suite.seeds]
        for entry in self.suite.methods:
            if not methods[entry.name].generative:
                out += [self._cell(None, entry, seed) for seed in self.suite.seeds]
        return out

    def _cell(self, backbone: Entry | None, entry: Entry, seed: int) -> Cell:
        label = backbone.label if backbone is not None else NO_BACKBONE
        settings, _ = resolve(self.suite, entry, self.dataset.label, label, seed)
        cls = methods[entry.name]
        rank = Rank(
            data=self.data,
            method=entry.name,
            settings=settings,
            code=code_of(cls, self.suite.plugins),
            seed=seed,
            k=self.suite.rank.k,
            beams=self.suite.rank.beams,
            length_penalty=self.suite.rank.length_penalty,
            limit_users=self.limit_users,
            train=self._train(backbone, entry, seed) if backbone is not None else None,
            collab=self._collab(seed) if "collab" in build(cls, settings, entry.where).needs else None,
            title=f"{label}/{entry.label}",
            device=self.device,
            rank_batch=self.suite.rank.batch,
        )
        score = Score(rank, self.suite.metrics, collab=self._collab(seed) if self._scores_collab else None)
        return Cell(self.dataset.label, label, entry.label, seed, score)

    def _train(self, backbone: Entry, entry: Entry, seed: int) -> Train | None:
        """The training that ends with this method; for a ranker, that of its start."""
        cls = methods[entry.name]
        start = _start(self.suite, entry)
        parent = self._train(backbone, start, seed) if start is not None else None
        if not issubclass(cls, FineTune):
            return parent
        settings, budget = resolve(self.suite, entry, self.dataset.label, backbone.label, seed)
        spec = build(backbones[backbone.name], backbone.settings, backbone.where)
        needs = build(cls, settings, entry.where).needs
        return Train(
            data=self.data,
            ids=self._ids(spec),
            backbone=backbone.name,
            backbone_settings=plain(spec.portable()),
            backbone_code=code_of(type(spec), self.suite.plugins),
            method=entry.name,
            settings=settings,
            code=code_of(cls, self.suite.plugins),
            budget=budget,
            beams=self.suite.rank.beams,
            length_penalty=self.suite.rank.length_penalty,
            seed=seed,
            start=parent,
            collab=self._collab(seed) if "collab" in needs else None,
            text=self._embed(_TEXT.features, _TEXT.dim, _TEXT.seed) if "text" in needs else None,
            title=f"{backbone.label}/{entry.label}",
            device=self.device,
            micro_batch=self.suite.pace.micro_batch,
            checkpoint_minutes=self.suite.pace.checkpoint_minutes,
            rank_batch=self.suite.rank.batch,
            processes=self.suite.pace.processes,
            tracking=self._tracking(f"{self.dataset.label}/{backbone.label}/{entry.label}/seed-{seed}"),
        )

    def _tracking(self, run: str) -> Json | None:
        return None if self.tracking is None else {**self.tracking, "suite": self.suite.name, "run": run}

    def _ids(self, spec: Backbone) -> Identify:
        ids, place, source, text, collab = spec.ids, "", "", None, None
        if isinstance(ids, TitleIds):
            place = models.resolved(ids.model, self.suite.path.parent)
            noun = "" if ids.noun else spec_of(self.dataset.name, [self.folder.parent]).noun
            return Identify(self.data, plain(portable_ids(ids)), models.source(place), noun=noun, place=place)
        if isinstance(ids, (ReleasedIds, FileIds)):
            path = (
                index.locate(self.suite.path.parent, ids.path)
                if isinstance(ids, FileIds)
                else index.find(self.dataset.name, [self.folder])
            )
            place, source = str(path), index.file_checksum(path)
        else:
            text = self._embed(ids.features, ids.dim, ids.seed)
        if isinstance(ids, LetterIds) and ids.alignment > 0:
            collab = Collaborate(self.data, {**self.suite.collab, "hidden": ids.latent}, ids.seed, self.device)
        return Identify(self.data, plain(portable_ids(ids)), source, text, collab, place=place, device=self.device)

    def _embed(self, name: str, dim: int, seed: int) -> Embed:
        place = features.resolved(name, self.suite.path.parent)
        own = name != "tfidf-svd"
        return Embed(
            data=self.data,
            features=features.nameless(name),
            source=features.source(place),
            dim=0 if own else dim,
            seed=0 if own else seed,
            place=place,
            device=self.device,
        )

    @property
    def _scores_collab(self) -> bool:
        """Whether a metric reads collaborative scores; they come from the model that the methods use."""
        return any(parse(name).metric.needs == "collab" for name in self.suite.metrics)

    def _collab(self, seed: int) -> Collaborate:
        return Collaborate(self.data, self.suite.collab, seed, self.device)


def resolve(suite: Suite, entry: Entry, dataset: str, backbone: str, seed: int) -> tuple[Json, Json]:
    """Return a method's settings and budget in one cell, defaults included.

    Later ones win: the budget's defaults, the suite's ``train:``, what the method's class declares (a published
    recipe, such as DPO's learning rate), the method's own settings in the suite, the overrides.
    """
    cls = methods[entry.name]
    own = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    mine = dict(entry.settings)
    cell = {"dataset": dataset, "backbone": backbone, "method": entry.label, "seed": seed}
    for override in suite.overrides:
        if all(cell[k] in (v if isinstance(v, tuple) else (v,)) for k, v in override.when.items()):
            mine.update(override.set)
    trained = issubclass(cls, FineTune)
    budget = {k: mine.pop(k) for k in list(mine) if trained and k in _BUDGET and k not in own}
    made = build(cls, mine, entry.where)
    check_declarations(made, entry.where)
    settings = plain(made)
    defaults = dict(cls.budget) if trained else {}  # type: ignore[attr-defined]
    merged = build(Budget, {**suite.train, **defaults, **budget}, entry.where)
    return settings, plain(merged)


def code_of(cls: type[Ranker] | type[Backbone], plugins: Sequence[Path] = ()) -> str:
    """Identify a class's code: its version, and for a plug-in the hash of its file and of all plug-in files."""
    if cls.__module__.startswith("rlrecbench."):
        return f"v{cls.version}"
    files = {Path(inspect.getfile(cls)).resolve(), *plugins}
    return f"v{cls.version}+{sha256(b''.join(p.read_bytes() for p in sorted(files))).hexdigest()[:16]}"


def select(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Keep the cells that every ``--only key=value,value`` admits.

    Raises:
        ConfigError: A filter is malformed or matches nothing in the suite.
    """
    kept = list(cells)
    keys = ("dataset", "backbone", "method", "seed")
    for rule in only:
        key, equals, values = rule.partition("=")
        if key not in keys or not equals or not values:
            raise ConfigError(f"--only {short(rule)}: write key=value[,value], with key one of {', '.join(keys)}")
        known = sorted({str(getattr(c, key)) for c in cells})
        for value in values.split(","):
            if value not in known:
                raise UnknownNameError(
                    f"--only {short(rule)}: the suite has no {key} {value!r}; {nearest(value, known)}"
                )
        kept = [c for c in kept if str(getattr(c, key)) in values.split(",")]
    return kept


def _entries(items: Sequence[Any], where: str) -> tuple[Entry, ...]:
    """Read a list of ``name`` or ``name: {settings}``."""
    out: list[Entry] = []
    for i, item in enumerate(items):
        place = f"{where}[{i}]"
        if isinstance(item, str):
            name, settings = item, dict[str, Any]()
        elif isinstance(item, dict) and len(item) == 1:
            name, settings = next(iter(item.items()))
        else:
            raise ConfigError(f"{place}: write a name, or 'name: {{setting: value}}', found {shown(item)}")
        settings = {} if settings is None else settings
        if not isinstance(settings, dict):
            raise ConfigError(
                f"{place}: the settings of {short(repr(name))} must be a mapping, found {shown(settings)}"
            )
        settings = dict(settings)
        label = settings.pop("as", name)
        if not isinstance(label, str) or not registry.is_name(label) or label == NO_BACKBONE:
            raise ConfigError(f"{place}.as: {shown(label)} must be {registry.NAMES}")
        start = settings.pop("start", None) if where.endswith("methods") else None
        if start is not None and not isinstance(start, str):
            raise ConfigError(f"{place}.start: write a method's name or 'base', found {shown(start)}")
        if any(e.label == label for e in out):
            raise ConfigError(f"{place}: {label!r} stands twice; give one of them another name with 'as: ...'")
        out.append(Entry(str(name), label, settings, place, start))
    return tuple(out)


def _start(suite: Suite, entry: Entry) -> Entry | None:
    """The entry whose training comes before; None for the untrained backbone."""
    cls = methods[entry.name]
    name = entry.start or (cls.start if issubclass(cls, FineTune) else "sft")
    if name == "base":
        return None
    for other in suite.methods:
        if other.label == name:
            return other
    return Entry(name, name, {}, f"{entry.where}.start")


def _check(suite: Suite) -> None:
    where = suite.path
    for kind, entries in (("datasets", suite.datasets), ("methods", suite.methods)):
        if not entries:
            raise ConfigError(f"{where}: {kind}: give at least one (rlrecbench list {kind})")
    for entry in suite.datasets:
        build(DataOptions, entry.settings, entry.where)
    for entry in suite.backbones:
        _check_ids(suite, entry)
    for entry in suite.methods:
        _check_method(suite, entry)
    if not suite.backbones and any(methods[e.name].generative for e in suite.methods):
        raise ConfigError(f"{where}: backbones: the methods need at least one (rlrecbench list backbones)")
    for i, name in enumerate(suite.metrics):
        spec = parse(name, f"{where}: metrics[{i}]")
        if spec.k > suite.rank.k:
            raise ConfigError(
                f"{where}: metrics[{i}]: {name} needs lists of {spec.k}; raise rank.k (now {suite.rank.k})"
            )
    if suite.rank.beams < suite.rank.k:
        raise ConfigError(f"{where}: rank.beams: {suite.rank.beams} beams cannot fill lists of {suite.rank.k}")
    if suite.stats.primary not in suite.metrics:
        raise ConfigError(f"{where}: stats.primary: {suite.stats.primary!r} is not among the suite's metrics")
    _check_rows(suite)
    known: dict[str, list[str | int]] = {
        "dataset": [e.label for e in suite.datasets],
        "backbone": [*(e.label for e in suite.backbones), NO_BACKBONE],
        "method": [e.label for e in suite.methods],
        "seed": list(suite.seeds),
    }
    for i, override in enumerate(suite.overrides):
        for key, value in override.when.items():
            if key not in known:
                raise ConfigError(f"{where}: overrides[{i}].when: unknown key {key!r}; allowed: {', '.join(known)}")
            for v in value if isinstance(value, tuple) else (value,):
                if v not in known[key]:
                    raise ConfigError(
                        f"{where}: overrides[{i}].when.{key}: the suite has no {v!r}; known: {known[key]}"
                    )
    for entry in suite.methods:
        for dataset in suite.datasets:
            for backbone in known["backbone"] if methods[entry.name].generative else [NO_BACKBONE]:
                for seed in suite.seeds:
                    _, budget = resolve(suite, entry, dataset.label, str(backbone), seed)
                    _check_processes(suite, entry, budget)


def _check_processes(suite: Suite, entry: Entry, budget: Json) -> None:
    """Refuse more processes than prompts in a batch."""
    processes, prompts = suite.pace.processes, budget["batch_size"]
    if processes > prompts and methods[entry.name].generative:
        raise ConfigError(
            f"{suite.path}: train.processes: {processes} processes cannot share the {prompts} prompts in a batch of "
            f"{entry.label!r}; lower it to {prompts}, or raise batch_size"
        )


def _check_rows(suite: Suite) -> None:
    """Refuse a baseline that is no row of the leaderboard, and two rows of one label."""
    rows, baseline = [e.label for e in suite.methods], suite.stats.baseline
    if suite.stats.rows == "backbones":
        rows = [e.label for e in suite.backbones]
        bare = [e for e in suite.methods if not methods[e.name].generative]
        twice = next((e for e in bare if e.label in rows), None)
        if twice is not None:
            raise ConfigError(
                f"{twice.where}: {twice.label!r} is also a backbone's label, and with stats.rows: backbones both are "
                "rows; give one of them another name with 'as: ...'"
            )
        rows += [e.label for e in bare]
    if baseline is not None and baseline not in (*rows, BEST):
        raise ConfigError(
            f"{suite.path}: stats.baseline: no row {baseline!r} among the {suite.stats.rows}; {nearest(baseline, rows)}"
        )


def _check_ids(suite: Suite, entry: Entry) -> None:
    """Look at the files that identifiers are made of."""
    spec = build(backbones.entry(entry.name, entry.where).value, entry.settings, entry.where)
    ids, where, base = getattr(spec, "ids", None), f"{entry.where}.ids", suite.path.parent
    if not isinstance(ids, AnyIds):
        raise ConfigError(
            f"{entry.where}: backbone {entry.name!r} needs a field 'ids: AnyIds' with settings of identifiers, "
            "such as RQVAEIds() (rlrecbench.identifiers)"
        )
    try:
        if isinstance(ids, FileIds):
            index.read(index.locate(base, ids.path), None, ids.codes, ids.content)
        elif isinstance(ids, TitleIds):
            models.check_files(models.resolved(ids.model, base))
        elif not isinstance(ids, ReleasedIds):
            features.check_files(features.resolved(ids.features, base))
    except BenchError as e:
        key = "path" if isinstance(ids, FileIds) else "features"
        place = f"{entry.where}.model" if isinstance(ids, TitleIds) else f"{where}.{key}"
        raise ConfigError(f"{place}: {e}") from e
    if isinstance(ids, LetterIds) and ids.alignment > 0 and ids.latent % suite.collab["heads"]:
        raise ConfigError(
            f"{where}.latent: {ids.latent} is the width of the SASRec that codes are aligned with, so it must be a "
            f"multiple of collab.heads ({suite.collab['heads']})"
        )


def _check_method(suite: Suite, entry: Entry, chain: tuple[str, ...] = ()) -> None:
    cls = methods.entry(entry.name, entry.where).value
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(
            f"{entry.where}: method {entry.name!r} is not a dataclass; decorate it with @dataclass(frozen=True)"
        )
    bare = [f.name for f in dataclasses.fields(cls) if isinstance(f.default, property)]
    if bare:
        raise ConfigError(
            f"{entry.where}: method {entry.name!r}: field {bare[0]!r} is a declaration of the base class; give it a "
            f"default of its own, such as '{bare[0]}: Count = 1'"
        )
    clash = [f.name for f in dataclasses.fields(cls) if f.name in (*_BUDGET, "start", "as")]
    if clash:
        raise ConfigError(
            f"{entry.where}: method {entry.name!r}: field {clash[0]!r} is a name of the training budget; rename it"
        )
    if entry.label in chain:
        raise ConfigError(f"{entry.where}.start: the starts form a circle: {' -> '.join([*chain, entry.label])}")
    if not issubclass(cls, FineTune) and entry.start is not None and not cls.generative:
        raise ConfigError(f"{entry.where}.start: {entry.name!r} has no training, so nothing to start from")
    resolve(replace(suite, overrides=()), entry, "", "", 0)
    start = _start(suite, entry) if cls.generative else None
    if start is not None:
        if not issubclass(methods.entry(start.name, f"{entry.where}.start").value, FineTune):
            raise ConfigError(f"{entry.where}.start: {start.name!r} trains nothing; start from a fine-tuning method")
        _check_method(suite, start, (*chain, entry.label))


def _set(raw: Json, change: str) -> None:
    """Apply ``a.b.c=value`` to parsed YAML; in a list, a part is the label or name of an entry."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {short(change)}: write key=value, such as train.epochs=1 or seeds=[42]")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as e:
        raise ConfigError(f"--set {short(change)}: the value is not valid YAML") from e
    here: Any = raw
    parts = key.split(".")
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(here, list):
            here = _entry_settings(here, part, change)
            if last:
                raise ConfigError(f"--set {short(change)}: name the setting of {part!r}, such as {key}.lr=1e-4")
        elif isinstance(here, dict):
            if last:
                here[part] = value
            else:
                if here.get(part) is None:
                    here[part] = {}
                here = here[part]
        else:
            raise ConfigError(f"--set {short(change)}: {'.'.join(parts[:i])} holds a single value, not settings")


def _entry_settings(items: list[Any], name: str, change: str) -> Json:
    for i, item in enumerate(items):
        own = item if isinstance(item, str) else next(iter(item), None) if isinstance(item, Mapping) else None
        settings = item.get(own) if isinstance(item, Mapping) else None
        label = settings.get("as", own) if isinstance(settings, Mapping) else own
        if label == name:
            fresh = copy.deepcopy(dict(settings)) if isinstance(settings, Mapping) else {}
            items[i] = {own: fresh}
            return fresh
    raise ConfigError(f"--set {short(change)}: the list has no entry {name!r}")
