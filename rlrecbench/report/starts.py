"""Which checkpoint each method of a results folder begins with, and which methods differ in that alone."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from rlrecbench.results import Record, Results


class Start(NamedTuple):
    """Where a method begins."""

    recipe: str  # the method and its settings as the suite writes them, the start left out
    start: str  # label of the method whose checkpoint it begins with, "base" for none; "" if not known


def starts(results: Results) -> dict[str, Start]:
    """Read the starts of a suite's methods, by label.

    A start that the suite leaves to the method is taken from the records: it is the first method of the suite whose
    models come out of the same trainings but for the last one.
    """
    trained = {e["label"]: _trainings(results.records, e["label"]) for e in results.suite["methods"]}
    out = {}
    for entry in results.suite["methods"]:
        label = entry["label"]
        recipe = json.dumps([entry["name"], entry.get("settings", {})], sort_keys=True)
        out[label] = Start(recipe, entry.get("start") or _before(label, trained))
    return out


def _trainings(records: Sequence[Record], method: str) -> list[set[str]]:
    """Stages of training behind each of a method's records."""
    mine = (r.provenance.get("stages", {}) for r in records if r.method == method)
    return [{name for name in stages if name.startswith("train/")} for stages in mine]


def _before(label: str, trained: dict[str, list[set[str]]]) -> str:
    for other, found in trained.items():
        if any(len(a) == len(b) + 1 and b < a for a in trained[label] for b in found if b):
            return other
    return ""
