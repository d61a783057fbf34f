"""Names such as ``ndcg@10`` or ``dgu@10-compat``, and their evaluation in one pass over the lists."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, cast

import numpy as np

from rlrecbench.data.frame import Ints
from rlrecbench.errors import ConfigError
from rlrecbench.metrics.lists import Beside, Lists
from rlrecbench.metrics.reference import Floats
from rlrecbench.registry import Registry

Better = Literal["higher", "lower"]
Level = Literal["user", "exposure", "list"]
VARIANTS = ("compat", "string")
ALIASES = {"hr": "recall", "recall-string": "hr-string"}
_TEXT = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)@(?P<k>[0-9]{1,6})(?:-(?P<variant>[a-z]+))?")


class Metric(Protocol):
    """A registered function of (lists, k), or of the exposure in the first k places.

    Attributes:
        better: Which direction is better.
        level: What the function takes and gives. "user": (lists, k) -> one value per user, [U], whose mean is the
            metric's value. "exposure": (exposure) -> one value for each set of counts, [...], all that it knows of
            the lists being how often things stand in them, so that it can be resampled. "list": (lists, k) -> one
            value over the lists of all users, which is not resampled.
        smooth: The exposure's groups are all that the function looks at, so that resampling the users with
            replacement gives an interval; a resample has only 63 % of the users, hence fewer items and words.
        needs: What must stand beside the lists; without it the value is undefined (NaN).
    """

    better: Better
    level: Level
    smooth: bool
    needs: Beside | None
    __call__: Callable[..., Floats | float]


metrics: Registry[Metric] = Registry("metric")
F = TypeVar("F", bound=Callable[..., Floats | float])


def metric(
    name: str, *, better: Better, level: Level, smooth: bool = False, needs: Beside | None = None, cite: str = ""
) -> Callable[[F], F]:
    """Return a decorator that registers a function as a metric.

    Args:
        name: What stands before ``@``; the variants end with ``-compat`` or ``-string``.
        better: "higher" or "lower".
        level: "user" or "list" for a function of (lists, k) that returns [U] values or a number, "exposure" for a
            function of an :class:`~rlrecbench.metrics.exposure.Exposure` that returns a value for each set of counts.
        smooth: Of an exposure, the function looks at the groups only.
        needs: "probability", "collab" or "fit" for a function that reads these of the lists; it is called only for
            lists that have them.
        cite: Citation key.
    """

    def add(function: F) -> F:
        value = cast(Metric, function)
        value.better, value.level, value.smooth, value.needs = better, level, smooth, needs
        metrics.register(name, cite=cite)(value)
        return function

    return add


@dataclass(frozen=True)
class Spec:
    """A metric at a cut-off.

    Attributes:
        name: Registered name.
        k: Cut-off, at least 1.
    """

    name: str
    k: int

    def __str__(self) -> str:
        base, _, variant = self.name.rpartition("-")
        return f"{base}@{self.k}-{variant}" if variant in VARIANTS else f"{self.name}@{self.k}"

    @property
    def metric(self) -> Metric:
        """The registered function."""
        return metrics[self.name]

    def of(self, lists: Lists) -> Floats | float:
        """Evaluate one ranking: [U] values for a metric of users, else a number."""
        function = self.metric
        return function(lists.exposure(self.k)) if function.level == "exposure" else function(lists, self.k)


def parse(text: str, where: str = "") -> Spec:
    """Read a name such as ``recall@5``, ``hr@5`` (the same) or ``dgu@10-compat``.

    Args:
        text: What the suite wrote.
        where: Place to name in the error.

    Raises:
        ConfigError: The text has no cut-off, or one below 1.
        UnknownNameError: There is no such metric; the message proposes the nearest one.
    """
    match = _TEXT.fullmatch(text)
    if match is None or int(match["k"]) < 1:
        place = f"{where}: " if where else ""
        name = text.partition("@")[0]
        example = f"{name}@10" if name in metrics or name in ALIASES else "ndcg@10"
        raise ConfigError(
            f"{place}metric {text!r} is not NAME@K with a whole cut-off K of at least 1; write for example {example!r}"
        )
    name = match["name"] + (f"-{match['variant']}" if match["variant"] else "")
    name = ALIASES.get(name, name)
    metrics.entry(name, where)
    return Spec(name, int(match["k"]))


def standard(
    cutoffs: Sequence[int], credit: Literal["item", "string"] = "item", beside: Collection[Beside] = ()
) -> list[Spec]:
    """All registered metrics at some cut-offs, those of single users first.

    Args:
        cutoffs: Values of k.
        credit: "string" adds the ``-string`` variants beside the others.
        beside: What the lists have beside the items; metrics that need anything else are left out.
    """
    wanted = [e for e in metrics if credit == "string" or not e.name.endswith("-string")]
    wanted = [e for e in wanted if e.value.needs is None or e.value.needs in beside]
    wanted.sort(key=lambda e: e.value.level != "user")
    return [Spec(entry.name, k) for entry in wanted for k in cutoffs]


@dataclass(frozen=True)
class Result:
    """The values of one ranking.

    Attributes:
        values: Value of each metric by its full name; NaN where it is undefined (nothing was recommended, or the
            lists lack what it needs).
        per_user: Values of the user-level metrics by full name, each [U].
        rank: 1-based rank of the target, 0 where it is absent, [U].
    """

    values: dict[str, float]
    per_user: dict[str, Floats]
    rank: Ints


def evaluate(lists: Lists, specs: Sequence[Spec | str]) -> Result:
    """Evaluate metrics; all of them share the lists' ranks and counts.

    Raises:
        ConfigError: A name is wrong.
    """
    values: dict[str, float] = {}
    per_user: dict[str, Floats] = {}
    for spec in specs:
        spec = parse(spec) if isinstance(spec, str) else spec
        user = spec.metric.level == "user"
        undefined = np.full(len(lists), np.nan) if user else np.nan
        value = spec.of(lists) if lists.has(spec.metric.needs) else undefined
        if user:
            users = per_user[str(spec)] = np.asarray(value, np.float64)
            value = users.mean() if len(users) else np.nan
        values[str(spec)] = float(value)
    return Result(values, per_user, lists.rank)
