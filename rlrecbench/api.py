"""What a plug-in imports; semantic versioning applies to the names in this module and to nothing else."""

from rlrecbench.catalogue import Catalogue
from rlrecbench.config import Count, Positive, Share, Size, Weight
from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.method import (
    Draw,
    Drawn,
    FineTune,
    Head,
    Measure,
    Prompts,
    Ranked,
    Ranker,
    RankJob,
    Scalar,
    Step,
    method,
)
from rlrecbench.policy.base import Policy
from rlrecbench.policy.free import beam_free
from rlrecbench.policy.score import score
from rlrecbench.policy.search import Assistant, Found, rank_items
from rlrecbench.rewards import RewardNames, needs_of, reward, rewards, total_reward

__all__ = [
    "Assistant",
    "Catalogue",
    "Count",
    "Dataset",
    "Draw",
    "Drawn",
    "Examples",
    "FineTune",
    "Found",
    "Head",
    "Measure",
    "Policy",
    "Positive",
    "Prompts",
    "RankJob",
    "Ranked",
    "Ranker",
    "RewardNames",
    "Scalar",
    "Share",
    "Size",
    "Step",
    "Weight",
    "beam_free",
    "method",
    "needs_of",
    "rank_items",
    "reward",
    "rewards",
    "score",
    "total_reward",
]
