"""The training loop: one for every method and backbone."""

from rlrecbench.train.budget import Budget
from rlrecbench.train.loop import Outcome, TrainJob, train

__all__ = ["Budget", "Outcome", "TrainJob", "train"]
