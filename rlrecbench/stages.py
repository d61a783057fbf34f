"""The concrete graph: Prepare -> Collaborate / Embed -> Identify -> Train (from a start) -> Rank -> Score.

Fields are JSON values or other stages; their hash is the identity of the result. Device, batch sizes of a
pass and where data lie are ``free``: they change how fast a result comes, not what it is.
"""

import contextlib
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlrecbench import registry
from rlrecbench.config import build
from rlrecbench.data.frame import Dataset, Ints
from rlrecbench.errors import BenchError, DataError
from rlrecbench.metrics.reference import Floats
from rlrecbench.store import Report, Stage, Store, from_json, stage, to_json

Json = dict[str, Any]
_SCORES_AT_ONCE = 2**24  # collaborative scores in memory, 64 MiB


@stage
@dataclass(frozen=True)
class Prepare(Stage):
    """Read a data set's files and split them."""

    name: ClassVar[str] = "prepare"
    free: ClassVar[frozenset[str]] = frozenset({"dirs"})

    dataset: str
    options: Json
    checksum: str
    dirs: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What progress shows."""
        return f"prepare {self.dataset}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write the prepared data set."""
        from rlrecbench.data.datasets import checksum, locate
        from rlrecbench.data.prepare import DataOptions, prepare

        place = locate(self.dataset, [Path(d) for d in self.dirs])
        if checksum(self.dataset, place) != self.checksum:
            raise DataError(f"{place}: the files of {self.dataset} have changed since the run began; run it again")
        data = prepare(self.dataset, build(DataOptions, self.options, self.dataset), [Path(d) for d in self.dirs])
        data.write(folder)

    def load(self, store: Store) -> Dataset:
        """Read the prepared data set."""
        return Dataset.read(store.path(self))


@stage
@dataclass(frozen=True)
class Collaborate(Stage):
    """Train the collaborative model."""

    name: ClassVar[str] = "collab"
    resumable: ClassVar[bool] = True
    scratch: ClassVar[tuple[str, ...]] = ("checkpoint*",)
    free: ClassVar[frozenset[str]] = frozenset({"device"})

    data: Prepare
    settings: Json
    seed: int
    device: str = "auto"

    @property
    def label(self) -> str:
        """What progress shows."""
        return f"collab {self.data.dataset} (width {self.settings['hidden']}) seed {self.seed}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write item vectors and user states."""
        from rlrecbench import collab
        from rlrecbench.device import device_of

        start = time.perf_counter()
        data = self.data.load(store)
        collab.train(
            data, build(collab.SASRec, self.settings, "collab"), self.seed, folder, report, device_of(self.device)
        )
        _write_cost(folder, train_s=time.perf_counter() - start)


@stage
@dataclass(frozen=True)
class Embed(Stage):
    """Turn the items' texts into vectors."""

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 2
    free: ClassVar[frozenset[str]] = frozenset({"place", "device"})

    data: Prepare
    features: str  # the name that a suite gives, a path by its last part
    source: str = ""  # checksum of a model's or a vectors file
    dim: int = 0  # width of tfidf-svd; 0 where the features have their own
    seed: int = 0  # of tfidf-svd
    place: str = ""  # the name with the whole path
    device: str = "auto"

    @property
    def label(self) -> str:
        """What progress shows."""
        return f"embed {self.data.dataset} ({self.features})"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write a vector for each item, [N, D]."""
        import torch
        from safetensors.torch import save_file

        from rlrecbench.device import device_of
        from rlrecbench.identifiers.features import embed, source

        place = self.place or self.features
        if source(place) != self.source:
            raise DataError(f"the files of {place} have changed since the run began; run it again")
        vectors = embed(
            self.data.load(store),
            place,
            dim=self.dim,
            seed=self.seed,
            device=device_of(self.device),
            report=report,
        )
        save_file({"items": torch.from_numpy(vectors)}, folder / "text.safetensors")

    def load(self, store: Store) -> Any:
        """Read the vectors, [N, D]."""
        from safetensors.torch import load_file

        return load_file(store.path(self) / "text.safetensors")["items"]


@stage
@dataclass(frozen=True)
class Identify(Stage):
    """Give every item its codes."""

    name: ClassVar[str] = "identify"
    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True
    scratch: ClassVar[tuple[str, ...]] = ("checkpoint*",)
    free: ClassVar[frozenset[str]] = frozenset({"place", "device"})
    young: ClassVar[frozenset[str]] = frozenset({"noun"})

    data: Prepare
    settings: Json  # a path in it by its last part
    source: str = ""  # checksum of the index file, where there is one
    text: Embed | None = None  # what codes are computed from
    collab: Collaborate | None = None  # what LETTER aligns them with
    noun: str = ""  # what prompts call the items
    place: str = ""  # the index file, or the language model
    device: str = "auto"

    @property
    def label(self) -> str:
        """What progress shows."""
        bare = self.settings["kind"] == "letter" and self.collab is None
        return f"identify {self.data.dataset} ({self.settings['kind']}{' without alignment' if bare else ''})"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write the codes, their report, the index file and, where one was trained, the quantiser and its log."""
        from rlrecbench.device import device_of
        from rlrecbench.identifiers import FileIds, ReleasedIds, TitleIds, id_settings, identify, index

        data, settings = self.data.load(store), id_settings(self.settings)
        item_ids = data.items["item_id"].astype(str).tolist()
        if isinstance(settings, TitleIds):
            return self._titles(data, settings, folder)
        about: Json = {}
        if isinstance(settings, (FileIds, ReleasedIds)):
            if index.file_checksum(Path(self.place)) != self.source:
                raise DataError(f"{self.place} has changed since the run began; run it again")
            content = settings.content if isinstance(settings, FileIds) else None
            ids = index.read(Path(self.place), item_ids, settings.codes, content)
        else:
            from rlrecbench.identifiers.features import duplicates

            assert self.text is not None  # noqa: S101 - the suite gives computed codes their features
            vectors = self.text.load(store).numpy()
            collab = _collab(self.collab, store)
            embeddings = collab.items if collab is not None else None
            device = device_of(self.device)
            ids = identify(vectors, settings, embeddings, folder=folder, device=device, report=report)
            about = {"width": vectors.shape[1], "equal_features": duplicates(vectors)}
        ids.write(folder, about)
        index.write(ids, item_ids, folder / "index.json")

    def _titles(self, data: Dataset, settings: Any, folder: Path) -> None:
        """Write the titles' tokens and their tokenizer, and how long prompts are."""
        from rlrecbench.identifiers import models, titles

        if models.source(self.place) != self.source:
            raise DataError(f"the files of {self.place} have changed since the run began; run it again")
        item_ids, texts = (data.items[c].astype(str).tolist() for c in ("item_id", "title"))
        made = titles.make(texts, item_ids, settings, self.place, self.noun)
        made.write(folder, {"prompts": titles.prompt_report(made, data)})


@stage
@dataclass(frozen=True)
class Train(Stage):
    """Fine-tune a backbone with a method, from its untrained weights or from another training."""

    name: ClassVar[str] = "train"
    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True
    scratch: ClassVar[tuple[str, ...]] = ("checkpoint*", "draws-*", "reference-*", "part-*")
    free: ClassVar[frozenset[str]] = frozenset(
        {"title", "device", "micro_batch", "checkpoint_minutes", "rank_batch", "processes", "tracking"}
    )
    young: ClassVar[frozenset[str]] = frozenset({"length_penalty"})

    data: Prepare
    ids: Identify
    backbone: str
    backbone_settings: Json
    backbone_code: str
    method: str
    settings: Json
    code: str  # identifies the method's code: its version, or the hash of a plug-in file
    budget: Json
    beams: int
    seed: int
    length_penalty: float = 0.0
    start: "Train | None" = None
    collab: Collaborate | None = None
    text: Embed | None = None
    title: str = ""
    device: str = "auto"
    micro_batch: int | None = None
    checkpoint_minutes: float = 5.0
    rank_batch: int = 128
    processes: int = 1
    tracking: Json | None = None  # trackers, their folder, and the names of suite and run

    @property
    def label(self) -> str:
        """What progress shows."""
        return f"train {self.data.dataset}/{self.title or self.method} seed {self.seed}"

    def policy(self, store: Store) -> Any:
        """Create the untrained policy."""
        from rlrecbench import identifiers
        from rlrecbench.backbones import backbones

        spec = build(backbones[self.backbone], self.backbone_settings, self.backbone)
        return spec.policy(identifiers.read(store.path(self.ids)), self.seed, self.ids.place)

    def load(self, store: Store) -> Any:
        """Create the policy with the trained weights."""
        policy = self.policy(store)
        policy.load(store.path(self))
        return policy

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Train and write the selected weights, the log and the cost."""
        if self.processes == 1:
            return self.train(folder, store, report)
        from rlrecbench.train.processes import launch

        plugins = [str(p) for p in registry.loaded_files()]
        order = {"stage": to_json(self), "folder": str(folder), "store": str(store.root), "plugins": plugins}
        launch(f"{__name__}:train_together", order, self.processes, self.device, report)

    def train(self, folder: Path, store: Store, report: Report) -> None:
        """Train in this process, alone or as one of several; only the first writes."""
        from accelerate import PartialState
        from safetensors.torch import save_file

        from rlrecbench.device import enough_memory
        from rlrecbench.method import FineTune, methods
        from rlrecbench.policy.base import put
        from rlrecbench.train import Budget, TrainJob, train

        data = self.data.load(store)
        policy = self.start.load(store) if self.start is not None else self.policy(store)
        method = build(methods[self.method], self.settings, self.method)
        assert isinstance(method, FineTune)  # noqa: S101 - the suite makes no Train for a ranker
        memory = Memory()
        job = TrainJob(
            data=data,
            policy=policy,
            method=method,
            budget=build(Budget, self.budget, "train"),
            seed=self.seed,
            folder=folder,
            collab=_collab(self.collab, store),
            text=self.text.load(store) if self.text is not None else None,
            beams=self.beams,
            length_penalty=self.length_penalty,
            device=self.device,
            micro_batch=self.micro_batch,
            checkpoint_minutes=self.checkpoint_minutes,
            rank_batch=self.rank_batch,
            tracking=self._tracking(),
        )
        with enough_memory(self._advice(job.budget.batch_size)):
            outcome = train(job, report)
        if not PartialState().is_main_process:
            return
        weights = {k.partition(".")[2]: v for k, v in outcome.weights.items() if k.startswith("policy.")}
        heads = {k.partition(".")[2]: v for k, v in outcome.weights.items() if k.startswith("heads.")}
        put(policy, weights)
        policy.save(folder)
        if heads:
            save_file(heads, folder / "heads.safetensors")
        _write_cost(
            folder,
            train_s=outcome.seconds,
            steps=outcome.steps,
            examples=outcome.examples,
            examples_per_s=outcome.examples / max(outcome.seconds, 1e-9),
            parameters=policy.parameters_trained,
            peak_memory_mb=memory.peak_mb(),
            **{"valid_logp" if data.protocol == "distribution" else "valid_ndcg10": outcome.best},
            best_step=outcome.best_step,
            stopped_early=outcome.stopped_early,
            **({"processes": self.processes} if self.processes > 1 else {}),
        )

    def _tracking(self) -> Any:
        from rlrecbench.train.tracking import Tracking

        if self.tracking is None:
            return None
        settings = {
            "dataset": self.data.dataset,
            "data": self.data.options,
            "backbone": {"name": self.backbone, **self.backbone_settings},
            "identifiers": self.ids.settings,
            "method": {"name": self.method, **self.settings},
            "train": self.budget,
            "beams": self.beams,
            "seed": self.seed,
            "key": self.key,
        }
        return Tracking(
            trackers=tuple(self.tracking["trackers"]),
            folder=Path(self.tracking["folder"]),
            suite=self.tracking["suite"],
            run=self.tracking["run"],
            settings=settings,
        )

    def _advice(self, batch: int) -> str:
        """What to lower when memory runs out."""
        lower = f"lower train.micro_batch (now {self.micro_batch or batch}) or rank.batch (now {self.rank_batch})"
        if self.backbone == "bigrec-qwen" and not self.backbone_settings["checkpointing"]:
            lower += ", or set checkpointing: true in the backbone"
        return f"{lower}; results change by rounding only"


@stage
@dataclass(frozen=True)
class Rank(Stage):
    """Rank the catalogue for every test example."""

    name: ClassVar[str] = "rank"
    free: ClassVar[frozenset[str]] = frozenset({"title", "device", "rank_batch"})
    young: ClassVar[frozenset[str]] = frozenset({"length_penalty"})

    data: Prepare
    method: str
    settings: Json
    code: str
    seed: int
    k: int
    beams: int
    limit_users: int | None = None
    length_penalty: float = 0.0
    train: Train | None = None
    collab: Collaborate | None = None
    title: str = ""
    device: str = "auto"
    rank_batch: int = 128

    @property
    def label(self) -> str:
        """What progress shows."""
        return f"rank {self.data.dataset}/{self.title or self.method} seed {self.seed}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write the ranked lists: row of the test part, rank, item, score."""
        from rlrecbench.device import device_of, enough_memory
        from rlrecbench.method import RankJob, methods
        from rlrecbench.train.budget import by_length
        from rlrecbench.train.loop import prompts_of

        data = self.data.load(store)
        ranker = build(methods[self.method], self.settings, self.method)
        device = device_of(self.device)
        policy = self.train.load(store).to(device).eval() if self.train is not None else None
        collab = _collab(self.collab, store)
        collab = collab.to(device) if collab is not None else None
        base = None
        if "base" in ranker.needs and self.train is not None:
            base = self.train.policy(store).to(device).eval()
        job = partial(
            RankJob,
            k=self.k,
            beams=self.beams,
            seed=self.seed,
            length_penalty=self.length_penalty,
            policy=policy,
            collab=collab,
            base=base,
        )
        test = data.test.head(self.limit_users)
        if data.protocol == "distribution":
            return self._draw(ranker, policy, len(test), folder)
        fitted = ranker.fit(data)
        items = np.full((len(test), self.k), -1, np.int64)
        scores = np.full((len(test), self.k), -np.inf, np.float32)
        start, done = time.perf_counter(), 0
        for rows in by_length(test, np.arange(len(test)), self.rank_batch):
            with enough_memory(f"lower rank.batch (now {self.rank_batch}); results change by rounding only"):
                ranked = ranker.rank(job(prompts_of(test, "test", rows, device), fitted=fitted))
            width = min(self.k, ranked.items.shape[1])
            items[rows, :width] = ranked.items[:, :width].cpu().numpy()
            scores[rows, :width] = ranked.scores[:, :width].float().cpu().numpy()
            done += len(rows)
            report(done, len(test), "users")
        row, at = np.nonzero(items != -1)
        table = {
            "row": row.astype(np.int32),
            "rank": (at + 1).astype(np.int32),
            "item": items[row, at],
            "score": scores[row, at],
        }
        pq.write_table(pa.table(table), folder / "ranked.parquet")
        _write_cost(folder, rank_s_per_1000=1000 * (time.perf_counter() - start) / max(len(test), 1))

    def _draw(self, ranker: Any, policy: Any, n: int, folder: Path) -> None:
        """Write n items drawn from the policy in place of lists, and the probability of every item."""
        from rlrecbench.method import Ranker
        from rlrecbench.policy.generate import generate, probabilities

        if policy is None or type(ranker).rank is not Ranker.rank:
            raise BenchError(
                f"data set {self.data.dataset} has 'titles', so items are drawn from a trained policy, and "
                f"{self.method} ranks by other means; give it a data set without 'titles', or leave it out"
            )
        start = time.perf_counter()
        drawn = generate(policy, n, self.seed)
        table = {
            "row": np.arange(n, dtype=np.int32),
            "rank": np.ones(n, np.int32),
            "item": drawn.items,
            "score": drawn.logp,
        }
        pq.write_table(pa.table(table), folder / "ranked.parquet")
        np.save(folder / "exact.npy", probabilities(policy))
        _write_cost(folder, rank_s_per_1000=1000 * (time.perf_counter() - start) / max(n, 1))


@stage
@dataclass(frozen=True)
class Score(Stage):
    """Compute metrics, per user and per list, from ranked lists."""

    name: ClassVar[str] = "score"
    young: ClassVar[frozenset[str]] = frozenset({"collab"})

    rank: Rank
    metrics: tuple[str, ...]
    definitions: int = field(default=1)  # bumped when a metric's definition changes
    collab: Collaborate | None = None  # where a metric needs it

    @property
    def label(self) -> str:
        """What progress shows."""
        return f"score {self.rank.label.partition(' ')[2]}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        """Write ``metrics.json``, ``users.parquet`` and ``ranked.parquet`` with the data set's own ids.

        Where a distribution was fitted, ``titles.parquet`` holds it beside what the policy draws and gives.
        """
        from rlrecbench.metrics import Lists, Reference, audit, evaluate, parse

        data = self.rank.data.load(store)
        test = data.test.head(self.rank.limit_users)
        table = pq.read_table(store.path(self.rank) / "ranked.parquet").to_pandas()
        ranked = np.full((len(test), self.rank.k), -1, np.int64)
        valid = (table["item"] >= 0) & (table["item"] < data.n_items)
        ranked[table["row"], table["rank"] - 1] = np.where(valid, table["item"], -2)
        scores = np.full(ranked.shape, -np.inf)
        scores[table["row"], table["rank"] - 1] = table["score"]
        specs = [parse(m) for m in self.metrics]
        needs = {spec.metric.needs for spec in specs}
        leaf, fit = self._leaves(store), self._fit(data, store)
        lists = Lists(
            ranked,
            test.target,
            Reference.of(data),
            leaf,
            probability=self._probability(ranked, scores, leaf) if "probability" in needs else None,
            collab=self._collab_scores(ranked, store) if "collab" in needs else None,
            fit=fit,
        )
        result = evaluate(lists, specs)
        item_ids = data.items["item_id"].to_numpy()
        users = data.test_ids()[: len(test)]
        frame = pd.DataFrame({"user_id": users, "target": item_ids[test.target]})
        frame["rank"] = pd.array(np.where(result.rank > 0, result.rank, 0), dtype="Int32")
        frame.loc[result.rank <= 0, "rank"] = pd.NA
        for name, values in result.per_user.items():
            frame[name] = values
        frame.to_parquet(folder / "users.parquet", index=False)
        own = pd.DataFrame({"user_id": users[table["row"]], "rank": table["rank"].astype("int32")})
        own["item_id"] = np.where(valid, item_ids[np.where(valid, table["item"], 0)], "")
        own["score"] = table["score"].astype("float32")
        own.to_parquet(folder / "ranked.parquet", index=False)
        if fit is not None:
            titles = data.items[["item_id", "title", "weight"]].assign(
                sampled=lists.items(1), floor=np.bincount(test.target, minlength=data.n_items), exact=fit.exact
            )
            titles.to_parquet(folder / "titles.parquet", index=False)
        numbers = {name: None if np.isnan(value) else value for name, value in result.values.items()}
        out = {"metrics": numbers, "audit": audit(lists)}
        (folder / "metrics.json").write_text(json.dumps(out, indent=1, allow_nan=False))

    def _leaves(self, store: Store) -> Any:
        if self.rank.train is None:
            return None
        from rlrecbench import identifiers

        return identifiers.read(store.path(self.rank.train.ids)).catalogue().leaf_of

    def _fit(self, data: Dataset, store: Store) -> Any:
        """What is known of a policy that was fitted to a distribution; None for recommendations."""
        if data.protocol != "distribution" or self.rank.train is None:
            return None
        from rlrecbench import identifiers
        from rlrecbench.metrics import Fit

        catalogue = identifiers.read(store.path(self.rank.train.ids)).catalogue()
        paths, end = catalogue.paths, catalogue.terminator
        exact = np.load(store.path(self.rank) / "exact.npy", allow_pickle=False)
        return Fit(exact, paths if end is None else np.where(paths == end, -1, paths))

    def _probability(self, ranked: Ints, scores: Floats, leaf: Ints | None) -> Floats | None:
        """Probability of each listed item: its path's, shared equally by the items of the path, [U, K].

        None for rankers without a backbone and for those with a ``rank`` of their own, whose scores need not be
        log-probabilities.
        """
        from rlrecbench.method import Ranker, methods

        if leaf is None or methods[self.rank.method].rank is not Ranker.rank or self.rank.length_penalty:
            return None
        sharing = np.bincount(leaf)[leaf]
        return np.asarray(np.exp(scores) / sharing[np.maximum(ranked, 0)])

    def _collab_scores(self, ranked: Ints, store: Store) -> Floats | None:
        """Collaborative scores of the listed items, each row's scaled over the catalogue to [0, 1], [U, K]."""
        import torch

        model = _collab(self.collab, store)
        if model is None:
            return None
        out = np.zeros(ranked.shape)
        for rows in torch.arange(len(ranked)).split(max(1, _SCORES_AT_ONCE // len(model.items))):
            scores = model.score("test", rows)
            low, high = scores.aminmax(dim=1, keepdim=True)
            listed = scores.gather(1, torch.from_numpy(ranked)[rows].clamp(min=0))
            out[rows.numpy()] = (listed - low) / (high - low).clamp(min=torch.finfo(scores.dtype).tiny)
        return out


def train_together(order: Json, report: Report) -> None:
    """Be one of the processes of a training; see :meth:`Train.run` for the order."""
    registry.load([Path(p) for p in order["plugins"]])
    made = from_json(order["stage"])
    assert isinstance(made, Train)  # noqa: S101 - Train.run wrote it
    made.train(Path(order["folder"]), Store(Path(order["store"])), report)


class Memory:
    """Peak memory of this process, measured from the moment this is made."""

    def __init__(self) -> None:
        import torch

        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak_mb(self) -> float:
        """Peak megabytes: the accelerator's where there is one, else the process's resident memory."""
        import torch

        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        try:
            status = Path("/proc/self/status").read_text()
            return float(status.partition("VmHWM:")[2].split()[0]) / 1024
        except (OSError, IndexError):
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_cost(folder: Path) -> Json:
    """Read a stage's cost; empty if it has none."""
    path = folder / "cost.json"
    cost: Json = json.loads(path.read_text()) if path.exists() else {}
    return cost


def _write_cost(folder: Path, **values: float) -> None:
    (folder / "cost.json").write_text(json.dumps(values, indent=1))


def _collab(stage: Collaborate | None, store: Store) -> Any:
    if stage is None:
        return None
    from rlrecbench.collab import Collab

    return Collab.read(store.path(stage))
