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
from rlrecbench.rewards import RewardNames, needs_of, reward, rewards, total_reward

__all__ = [
    "Catalogue",
    "Count",
    "Dataset",
    "Draw",
    "Drawn",
    "Examples",
    "FineTune",
    "Head",
    "Measure",
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
    "method",
    "needs_of",
    "reward",
    "rewards",
    "total_reward",
]
