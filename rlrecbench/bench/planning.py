"""From a suite to its stages: each stage's key is the hash of what it is made from, its parents' keys among it."""

from dataclasses import fields
from typing import Any

from rlrecbench import registry
from rlrecbench import suite as suites
from rlrecbench.bench.timing import Result, compare
from rlrecbench.config import digest, plain
from rlrecbench.store import Stage, closure

SUITE = "methods-ml100k"  # every method on two backbones, three seeds


def plan(repeats: int) -> Result:
    """Expand a suite and find its distinct stages, against hashing every stage of every cell with all it needs anew.

    Args:
        repeats: Alternating repeats.
    """
    registry.load()
    suite = suites.load(suites.find(SUITE), ())

    def ends() -> list[Stage]:
        return [cell.score for cell in suites.expand(suite, [], device="cpu")]

    def ours() -> set[str]:
        return {stage.key for stage in closure(ends())}

    def anew() -> set[str]:
        found: set[str] = set()
        for end in ends():
            _walk(end, found)
        return found

    words = f"hashing each stage of each cell with all it needs ({SUITE})"
    return compare("plan", words, ours, anew, ours() == anew(), repeats)


def _walk(stage: Stage, found: set[str]) -> str:
    """Hash a stage, its parents first, and note all keys."""
    own: dict[str, Any] = {}
    for field in fields(stage):  # type: ignore[arg-type]
        value = getattr(stage, field.name)
        if field.name in stage.free or (field.name in stage.young and value == field.default):
            continue
        own[field.name] = {"key": _walk(value, found)} if isinstance(value, Stage) else plain(value)
    key = digest({"stage": stage.name, "version": stage.version, "fields": own})
    found.add(key)
    return key
