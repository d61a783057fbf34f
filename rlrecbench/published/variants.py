"""What each row of the papers' tables is in our terms: a registered method, where it starts, and its settings.

A row of ours stands for a published one if its method and start are the same, the settings in ``holds`` have these
values, and every other setting either has its default or a value in ``allows``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CODES, TITLES = ("tiger", "letter"), ("bigrec-qwen",)


class Allowed(NamedTuple):
    """Values that a setting may have."""

    published: tuple[Any, ...]  # of the paper or of its public code
    ours: tuple[Any, ...] | None = ()  # others that count as the same row, with a remark; None: any


@dataclass(frozen=True)
class Variant:
    """A row of the papers' tables.

    Attributes:
        published: Its name in ``published.csv``.
        method: Registered name of the method.
        backbones: Those it was measured on; a ranker without a backbone stands beside these.
        start: Published name of what it continues from or ranks with; None: the untrained backbone, or nothing.
        holds: Settings that make this row, as records have them.
        allows: Other settings that a suite may write, their defaults included.
        also_from: Remark on each other start, by published name, with which it counts as the same row.
        datasets: Where it holds; none: wherever the name is published.
    """

    published: str
    method: str
    backbones: tuple[str, ...]
    start: str | None = None
    holds: Mapping[str, Any] = field(default_factory=dict)
    allows: Mapping[str, Allowed] = field(default_factory=dict)
    also_from: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()


_SILENT = {"sft": "Continues from sft; the paper does not say where it starts."}
_TUNED = {"bigrec": "Continues from BIGRec; the paper begins with the language model."}


def _gflowgr(published: str, method: str = "gflowgr-tb", **holds: Any) -> Variant:
    """GFlowGR's paper does not say where it starts, nor which K its tables have; its formulas have one."""
    usual: dict[str, Any] = {"trajectories": 1, "sampler": "adaptive", "weighted": True}
    allows = {
        "lam": Allowed((1.0,)),
        "reward": Allowed((["hit", "collab", "similar"],)),
        "reduction": Allowed(("token", "sum")),  # LETTER's code, eq. 1
        "clamp": Allowed((0.2, 0.0)),  # eq. 8 as printed divides by zero
        "normalise": Allowed((True, False)),
        **{key: Allowed((value,)) for key, value in usual.items()},
    }
    return Variant(published, method, CODES, holds=holds, allows=allows, also_from=_SILENT)


def _flower(published: str, reward: str) -> list[Variant]:
    """The weight of the flow loss is that of the public scripts, another one on Video Games."""
    same = {
        "form": Allowed(("paper", "code")),
        "reduction": Allowed(("sequence", "pooled")),
        "sft_weight": Allowed((1.0,)),
        "samples": Allowed((1,)),
        "granularity": Allowed((1,)),
    }
    games, others = Allowed((0.0005,), (0.005,)), Allowed((0.005,))
    return [
        Variant(published, "flower", TITLES, None, {"reward": reward}, {**same, "lam": lam}, _TUNED, names)
        for names, lam in ((("video_games",), games), (("cds_and_vinyl", "movies_and_tv"), others))
    ]


_BETA = {"beta": Allowed((0.3,))}
_PPO = {
    "reward": Allowed((["collab-minmax"],), (["hit", "collab-minmax"],)),
    "updates": Allowed((1,), (4,)),
    "kl_weight": Allowed((0.9,), (0.05,)),
    "kl": Allowed(("abs",), ("k1",)),
}


def _aligned(start: str) -> list[Variant]:
    """The rows of Flower's Table 5: preferences on BIGRec or on Flower."""
    sdpo = {"beta": Allowed((0.3,), (1.0,)), "negatives": Allowed((3,))}
    dmpo = {**_BETA, "negatives": Allowed((3,)), "reduction": Allowed(("mean", "sum"))}  # the paper, the public code
    rosepo = {**_BETA, "negatives": Allowed(("popular",)), "smoothing": Allowed((0.0,))}
    kinds = {"ppo": _PPO, "s-dpo": sdpo, "rosepo": rosepo, "dmpo": dmpo}
    return [Variant(f"{name}@{start}", name, TITLES, start, {}, allows) for name, allows in kinds.items()]


VARIANTS: tuple[Variant, ...] = (
    # GFlowGR, Table 1
    Variant("sft", "sft", CODES, allows={"reduction": Allowed(("token", "sum"))}),
    Variant("ppo", "ppo", CODES, "sft"),
    Variant("grpo", "grpo", CODES, "sft"),
    Variant("dpo", "dpo", CODES, "sft", allows={"negatives": Allowed(("uniform",))}),
    Variant("s-dpo", "s-dpo", CODES, "sft", allows={"negatives": Allowed((3,))}),
    Variant("sprec", "sprec", CODES, "sft"),
    Variant("ipa", "ipa", CODES, "sft"),
    _gflowgr("gflowgr-db", "gflowgr-db"),
    _gflowgr("gflowgr-tb"),
    # GFlowGR, Table 2
    _gflowgr("gflowgr-tb:reward=a", reward=["hit"]),
    _gflowgr("gflowgr-tb:reward=c", reward=["collab"]),
    _gflowgr("gflowgr-tb:reward=sim", reward=["similar"]),
    _gflowgr("gflowgr-tb:reward=a+c", reward=["hit", "collab"]),
    _gflowgr("gflowgr-tb:reward=a+sim", reward=["hit", "similar"]),
    _gflowgr("gflowgr-tb:reward=c+sim", reward=["collab", "similar"]),
    _gflowgr("gflowgr-tb:adaptive=false", sampler="random"),
    _gflowgr("gflowgr-tb:trajectories=0", trajectories=0),
    _gflowgr("gflowgr-tb:weighting=false", weighted=False),
    # Flower, Table 4
    Variant("sasrec", "sasrec", TITLES),
    Variant("bigrec", "sft", TITLES, allows={"reduction": Allowed(("token",))}),
    Variant("temp", "temp", TITLES, "bigrec", allows={"temperature": Allowed((1.2, 1.5, 2.0))}),
    # The paper has SASRec in it, its public command has not.
    Variant("d3", "d3", TITLES, "bigrec", {"length_penalty": 0.0}, {"alpha": Allowed((1.0,), None)}),
    Variant("ifairlrs", "ifairlrs", TITLES, allows={"reduction": Allowed(("row", "batch"))}),
    *_flower("flower", "div"),
    # Flower, Table 5
    *_aligned("bigrec"),
    *_aligned("flower"),
    # Flower, Table 6
    *_flower("flower:reward=frequency", "frequency"),
    *_flower("flower:reward=add", "add"),
    *_flower("flower:reward=div", "div"),
)

_FIT = "Table 3 fits another distribution, with a 3B model and a faulty count of tokens."
UNMATCHED: Mapping[tuple[str, str], str] = {
    (method, "bigrec-qwen-3b"): _FIT for method in ("base", "bigrec", "dpo", "ppo", "flower")
}
