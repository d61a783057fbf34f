"""What a stage will cost: FLOPs from the model's size and the data's, seconds from stages like it in the store.

A stage of the same kind that was computed on this machine tells its time; for the first of its kind the
FLOPs are divided by an assumed rate, and stages that hardly compute count a few seconds.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlrecbench.config import build, canonical
from rlrecbench.data.frame import Dataset
from rlrecbench.device import device_of
from rlrecbench.stages import Collaborate, Embed, Identify, Prepare, Rank, Score, Train, read_cost
from rlrecbench.store import Stage, Store

RATE = 15e9  # FLOP/s of one core on models this small, measured on a 2-core CPU
GPU_RATE = 1e14  # FLOP/s of an accelerator under bfloat16 autocast; a tenth of an H200's peak
BASE_MB = 900.0  # a worker that has imported its libraries
_SMALL_S: dict[str, float] = {"prepare": 3, "identify": 20, "embed": 5, "score": 1}
_TEXT_WIDTH = 768  # of features that say their width only once they are computed
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


def _cost(stage: Stage, store: Store, known: dict[str, list[float]]) -> Cost:
    flops, memory = _work(stage)
    like = known.get(_shape(stage))
    rate = GPU_RATE if device_of(getattr(stage, "device", "cpu")).type == "cuda" else RATE
    seconds = float(np.median(like)) if like else flops / rate if flops else _SMALL_S.get(stage.name, 2.0)
    return Cost(flops, seconds, BASE_MB + memory)


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
        return _PASSES * one * len(data.train) * s["epochs"] / 2, 100.0
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


def _shape(stage: Stage) -> str:
    """Stages that differ in nothing but seeds and parents take about as long."""
    identity = dict(stage.identity["fields"])
    identity.pop("seed", None)
    fields = {k: v for k, v in identity.items() if not (isinstance(v, dict) and set(v) == {"key"})}
    own = stage.data.key if isinstance(stage, (Embed, Identify, Collaborate, Train, Rank)) else ""
    own = stage.rank.data.key if isinstance(stage, Score) else own
    return canonical({"stage": stage.name, "fields": fields, "data": own})


def _history(store: Store) -> dict[str, list[float]]:
    """Seconds of the published stages, by shape."""
    known: dict[str, list[float]] = {}
    for path in store.root.glob("*/*/stage.json"):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        fields = dict(record["fields"])
        fields.pop("seed", None)
        data = fields.get("data", {}).get("key", "") if isinstance(fields.get("data"), dict) else ""
        rest = {k: v for k, v in fields.items() if not (isinstance(v, dict) and set(v) == {"key"})}
        seconds = read_cost(path.parent).get("train_s", record["wall_s"])
        known.setdefault(canonical({"stage": record["stage"], "fields": rest, "data": data}), []).append(float(seconds))
    return known
