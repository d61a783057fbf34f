"""Is one *method* better than another? Tests on paired differences, corrections, effects, verdicts, designs.

Metrics of all lists together have no per-user values: see :mod:`rlrecbench.stats.lists`.
"""

from rlrecbench.stats.agreement import Agreement, order_agreement
from rlrecbench.stats.blocks import CriticalDifference, Judged, WinTieLoss, critical_difference, win_tie_loss
from rlrecbench.stats.effects import Effect, Interval, Tally, effect, tally
from rlrecbench.stats.families import CORRECTIONS, benjamini_hochberg, corrected, family_p, holm
from rlrecbench.stats.paired import (
    CONFIDENCE,
    WARNINGS,
    Alternative,
    Test,
    Variance,
    crossed,
    t_seeds,
    t_users,
    two_way,
    wilcoxon,
)
from rlrecbench.stats.power import power_of, smallest_effect
from rlrecbench.stats.resampling import RESAMPLES, bootstrap, permutation
from rlrecbench.stats.settings import BEST, Correction, Direction, Rows, StatsConfig, TestName
from rlrecbench.stats.verdicts import Verdict, seeds_needed, verdict

__all__ = [
    "BEST",
    "CONFIDENCE",
    "CORRECTIONS",
    "RESAMPLES",
    "WARNINGS",
    "Agreement",
    "Alternative",
    "Correction",
    "CriticalDifference",
    "Direction",
    "Effect",
    "Interval",
    "Judged",
    "Rows",
    "StatsConfig",
    "Tally",
    "Test",
    "TestName",
    "Variance",
    "Verdict",
    "WinTieLoss",
    "benjamini_hochberg",
    "bootstrap",
    "corrected",
    "critical_difference",
    "crossed",
    "effect",
    "family_p",
    "holm",
    "order_agreement",
    "permutation",
    "power_of",
    "seeds_needed",
    "smallest_effect",
    "t_seeds",
    "t_users",
    "tally",
    "two_way",
    "verdict",
    "wilcoxon",
    "win_tie_loss",
]
