"""Ranked lists -> per-user and per-list numbers; numpy and pandas only, so a report needs no torch."""

from rlrecbench.metrics import accuracy as accuracy
from rlrecbench.metrics import distribution as distribution
from rlrecbench.metrics import diversity as diversity
from rlrecbench.metrics import fairness as fairness
from rlrecbench.metrics import fitting as fitting
from rlrecbench.metrics import generation as generation
from rlrecbench.metrics.exposure import Exposure
from rlrecbench.metrics.files import lists_of, read_lists, score
from rlrecbench.metrics.lists import Beside, Fit, Lists, audit
from rlrecbench.metrics.reference import Reference
from rlrecbench.metrics.spec import Metric, Result, Spec, evaluate, metric, metrics, parse, standard

__all__ = [
    "Beside",
    "Exposure",
    "Fit",
    "Lists",
    "Metric",
    "Reference",
    "Result",
    "Spec",
    "audit",
    "evaluate",
    "lists_of",
    "metric",
    "metrics",
    "parse",
    "read_lists",
    "score",
    "standard",
]
