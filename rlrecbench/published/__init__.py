"""What the GFlowGR and Flower papers print, and which of our rows stand for which of theirs."""

from rlrecbench.published.comparable import reasons
from rlrecbench.published.facts import Fact, facts, find, plain_metric
from rlrecbench.published.matching import Match, Reason, match
from rlrecbench.published.variants import UNMATCHED, VARIANTS, Variant

__all__ = [
    "UNMATCHED",
    "VARIANTS",
    "Fact",
    "Match",
    "Reason",
    "Variant",
    "facts",
    "find",
    "match",
    "plain_metric",
    "reasons",
]
