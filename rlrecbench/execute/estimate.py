"""What a stage will cost: FLOPs from the model's size and the data's, seconds from stages like it in the store.

A stage of the same kind that was computed on this machine tells its time; for the first of its kind the FLOPs are
divided by a share of the measured speed of a matrix product, and stages that hardly compute count by their rows.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlrecbench.config import build, canonical
from rlrecbench.data.frame import Dataset
from rlrecbench.device import device_of
from rlrecbench.execute.machine import peak
from rlrecbench.stages import Collaborate, Identify, Prepare, Rank, Score, Train, read_cost
from rlrecbench.store import Stage, Store

# What a stage gets of one core's fastest matrix product: the quickstart's on a 2-core CPU (114 GFLOP/s a core).
SHARE = {"train": 0.22, "rank": 0.30, "collab": 0.20, "identify": 0.15}
GPU_SHARE = 0.1  # of a GPU's product in bfloat16; assumed
BASE_MB = 900.0  # a worker that has imported its libraries
_SMALL_S: dict[str, float] = {"prepare": 0.5, "identify": 1, "embed": 4}  # the quickstart's
_ROW_S: dict[str, float] = {"rank": 5e-5, "score": 3e-5}  # a test row, without a backbone; the quickstart's
_TEXT_WIDTH = 768  # of features that say their width only once they are computed
_PATIENCE = 6  # times its patience SASRec trains before it runs out; on Beauty with 3: 15 epochs, and more than 20
_PASSES = 3.0  # a training step is a forward pass and a backward pass of twice its cost


class Cost(NamedTuple):
    """Expected cost of one stage on one worker."""

    flops: float
    seconds: float
    memory_mb: float


def estimate(stages: Sequence[Stage], store: Store) -> dict[str, Cost]:
    """Estimate every stage, by key."""
    known = _history(store)
    return {s.key: _cost(s, store, known) for s in stages}


def duration_of(stages: Sequence[Stage], costs: Mapping[str, Cost], workers: int) -> float:
    """Seconds that stages take with some workers: their sum shared out, but no less than the longest chain of parents.

    Args:
        stages: What is to be computed, parents first.
        costs: Of each, by key.
        workers: Stages at once.
    """
    until: dict[str, float] = {}
    for s in stages:
        until[s.key] = costs[s.key].seconds + max((until.get(p.key, 0.0) for p in s.parents), default=0.0)
    return max(sum(costs[s.key].seconds for s in stages) / workers, max(until.values(), default=0.0))


def _cost(stage: Stage, store: Store, known: dict[str, list[float]]) -> Cost:
    flops, memory = _work(stage)
    like = known.get(_shape(stage.identity))
    seconds = float(np.median(like)) if like else flops / _rate(stage) if flops else _light(stage)
    return Cost(flops, seconds, BASE_MB + memory)


def _rate(stage: Stage) -> float:
    """FLOP/s that a worker reaches in a stage."""
    device = device_of(getattr(stage, "device", "cpu")).type
    if device == "cuda":
        return peak(device) * GPU_SHARE * getattr(stage, "processes", 1)  # a GPU each; on a CPU they share the cores
    return peak(device) * SHARE[stage.name]


def _light(stage: Stage) -> float:
    """Seconds of a stage that hardly computes."""
    if isinstance(stage, (Rank, Score)):
        rank = stage.rank if isinstance(stage, Score) else stage
        return 0.02 + _ROW_S[stage.name] * len(data_of(rank.data).test.head(rank.limit_users))
    return _SMALL_S.get(stage.name, 1.0)


def _work(stage: Stage) -> tuple[float, float]:
    """FLOPs and megabytes of a stage."""
    if isinstance(stage, Train):
        return _training(stage)
    if isinstance(stage, Rank) and stage.train is not None:
        from rlrecbench.backbones import backbones

        spec = build(backbones[stage.train.backbone], stage.train.backbone_settings, stage.train.backbone)
        data = data_of(stage.data)
        test = data.test.head(stage.limit_users)
        return len(test) * spec.flops(float(test.lengths.mean()) if len(test) else 0.0, stage.beams), 0.0
    if isinstance(stage, Collaborate):
        s = stage.settings
        data = data_of(stage.data)
        width = float(data.train.lengths.max(initial=1))
        one = 2 * width * s["layers"] * (4 * s["hidden"] ** 2 + 2 * s["hidden"] * s["inner"])
        logits = 2 * s["hidden"] * (data.n_items if s["loss"] == "ce" else 2)
        epochs = min(s["epochs"], _PATIENCE * s["patience"])
        return _PASSES * (one + logits) * len(data.train) * epochs, 100.0
    if isinstance(stage, Identify):
        return _identifying(stage), 100.0
    return 0.0, 0.0


def _identifying(stage: Identify) -> float:
    """FLOPs of training a quantiser; 0 where nothing is trained. Early stopping is not foreseen."""
    from rlrecbench.identifiers import Quantised, id_settings

    ids = id_settings(stage.settings)
    if not isinstance(ids, Quantised) or stage.text is None:
        return 0.0
    layers = ids.layers(stage.text.dim or _TEXT_WIDTH)
    weights = 2 * sum(a * b for a, b in pairwise(layers)) + ids.levels * ids.codes * ids.latent
    return _PASSES * 2 * weights * data_of(stage.data).n_items * ids.epochs


def train_flops(stage: Train, steps: int) -> float:
    """FLOPs of training for some steps, the evaluations in between not counted."""
    return _a_step(stage)[0] * steps


def _training(stage: Train) -> tuple[float, float]:
    from rlrecbench.backbones import backbones
    from rlrecbench.train import Budget

    one, reference = _a_step(stage)
    spec = build(backbones[stage.backbone], stage.backbone_settings, stage.backbone)
    data, budget = data_of(stage.data), build(Budget, stage.budget, "train")
    steps = budget.total_steps(len(data.train))
    valid = min(len(data.valid), budget.eval_examples or len(data.valid))
    evaluations = steps / budget.steps_per_epoch(max(len(data.train), 1)) / budget.eval_every
    ranking = evaluations * valid * spec.flops(float(data.valid.lengths.mean()), stage.beams)
    activations = budget.batch_size * float(data.train.lengths.mean()) * 0.02
    return one * steps + ranking, activations + spec.megabytes(reference)


def _a_step(stage: Train) -> tuple[float, bool]:
    """FLOPs of one training step, and whether a reference policy is held."""
    from rlrecbench.backbones import backbones
    from rlrecbench.method import methods
    from rlrecbench.train import Budget

    spec = build(backbones[stage.backbone], stage.backbone_settings, stage.backbone)
    data, budget = data_of(stage.data), build(Budget, stage.budget, "train")
    drawn = [stage.settings.get(key) for key in ("negatives", "trajectories", "samples")]
    candidates = 1 + sum(n for n in drawn if type(n) is int)
    method: Any = build(methods[stage.method], stage.settings, stage.method)
    passes = _PASSES * method.updates + (method.reference is not None) + 2 * method.rollouts  # a rollout: draw, score
    one = spec.flops(float(data.train.lengths.mean()), candidates)
    return passes * one * budget.batch_size, method.reference is not None


@lru_cache(maxsize=8)
def _prepared(dataset: str, options: str, dirs: tuple[str, ...]) -> Dataset:
    from rlrecbench.data.prepare import DataOptions, prepare

    return prepare(dataset, build(DataOptions, json.loads(options), dataset), [Path(d) for d in dirs])


def data_of(stage: Prepare) -> Dataset:
    """The data set that a stage prepares, kept in memory."""
    return _prepared(stage.dataset, canonical(stage.options), stage.dirs)


def _shape(identity: dict[str, Any]) -> str:
    """Stages that differ in nothing but seeds and parents take about as long; the data they read directly do count."""
    fields = {k: v for k, v in identity["fields"].items() if k != "seed"}
    parents = {k: v["key"] for k, v in fields.items() if isinstance(v, dict) and set(v) == {"key"}}
    own = {k: v for k, v in fields.items() if k not in parents}
    return canonical({"stage": identity["stage"], "fields": own, "data": parents.get("data", "")})


def _history(store: Store) -> dict[str, list[float]]:
    """Seconds of the published stages, by shape."""
    known: dict[str, list[float]] = {}
    for path in store.root.glob("*/*/stage.json"):
        if path.parent.suffix:  # not published: being computed, damaged
            continue
        try:
            record = json.loads(path.read_text())
            seconds = float(read_cost(path.parent).get("train_s", record["wall_s"]))
            shape = _shape(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: computed again when it is needed
            continue
        known.setdefault(shape, []).append(seconds)
    return known
