"""Who gained and who lost: one metric of two rows by kinds of test users, and the users who moved most."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench import stats
from rlrecbench.config import nearest
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import parse
from rlrecbench.report.cases import known
from rlrecbench.report.cells import Values, defined, paired_test, values
from rlrecbench.report.comparing import Pairing, Side
from rlrecbench.results import Record, Results
from rlrecbench.stats import Direction, Tally, Test, TestName
from rlrecbench.stats.paired import TIE

By = Literal["group", "history"]
BY: tuple[By, ...] = get_args(By)
LENGTHS = ((0, 2), (3, 5), (6, 10), (11, 20), (21, inf))  # of histories, both ends in; ours: 10 and 20 are protocols'
MOVERS = 10  # users shown on each side


class Kind(NamedTuple):
    """What is known of the test users.

    Attributes:
        target: Title of the item that is looked for, [U].
        group: Its popularity group, 0 the most popular, [U].
        history: Items in the history that the model sees, [U].
    """

    target: list[str]
    group: NDArray[np.int64]
    history: NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """Users of one kind.

    Attributes:
        name: Such as "group 0" or "3-5 items".
        users: How many.
        a: Mean of A over them and the seeds.
        b: That of B.
        test: Of A - B; its interval is for these users alone, uncorrected.
        tally: Users and seeds won and lost.
    """

    name: str
    users: int
    a: float
    b: float
    test: Test
    tally: Tally


@dataclass(frozen=True)
class Mover:
    """A user whose value differs much.

    Attributes:
        user: The data set's id, for ``rlrecbench inspect``.
        difference: A - B, averaged over seeds.
        a: Rank of the target under A for each seed; None where it is not in the list.
        b: That under B.
        target: Title of the item that is looked for.
        group: Its popularity group.
        history: Items in the history.
    """

    user: str
    difference: float
    a: tuple[int | None, ...]
    b: tuple[int | None, ...]
    target: str
    group: int
    history: int


@dataclass(frozen=True)
class Drill:
    """Who gained and who lost.

    Attributes:
        metric: A metric of single users.
        seeds: Common seeds, in the order of the ranks.
        slices: By property, without kinds that no user is of.
        gained: Users with the largest differences in A's favour, the largest first.
        lost: Those in B's favour.
    """

    metric: str
    seeds: tuple[int, ...]
    slices: dict[By, tuple[Slice, ...]]
    gained: tuple[Mover, ...]
    lost: tuple[Mover, ...]


def properties(text: str) -> tuple[By, ...]:
    """Read what users are told apart by, separated by commas.

    Raises:
        ConfigError: A property is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in BY:
            raise ConfigError(f"--by {text}: no property {name!r}; {nearest(name, BY, 'allowed')}")
    return tuple(by for by in BY if by in names)


def drill(a: Side, b: Side, pairing: Pairing, metric: str, by: Sequence[By]) -> Drill:
    """Split a pairing's users by their properties, and name those who gained and lost most.

    Args:
        a: First row.
        b: Second row; it was measured on the same users.
        pairing: The two rows in one block.
        metric: A metric of single users.
        by: Properties to split by.

    Raises:
        ConfigError: The metric has no values per user, or is undefined for a seed.
        StoreError: The results folder does not know the users' histories.
    """
    spec = parse(metric)
    left, right = pairing.records
    if not a.results.has_users([*left, *right], str(spec)):
        raise ConfigError(
            f"{metric} has no value per user, so users cannot be told apart by it; name one such as ndcg@10"
        )
    if not defined([*left, *right], str(spec)):
        where = next(r.name for r in (*left, *right) if not defined([r], str(spec)))
        raise ConfigError(f"{metric} is undefined on {where}, so users cannot be told apart by it; name another one")
    found = values(a.results, left, right, str(spec))
    kind = kinds(a.results, pairing.dataset, found.users)
    better = 1 if spec.metric.better == "higher" else -1
    change = better * (found.a - found.b).mean(0)
    up, down = (np.argsort(sign * change, kind="stable")[:MOVERS] for sign in (-1, 1))
    ranks = [_ranks(side.results, records, found) for side, records in ((a, left), (b, right))]

    def mover(u: int) -> Mover:
        one, two = (tuple(int(r) or None for r in side[:, u]) for side in ranks)
        group, history = int(kind.group[u]), int(kind.history[u])
        return Mover(str(found.users[u]), float(better * change[u]), one, two, kind.target[u], group, history)

    return Drill(
        metric=str(spec),
        seeds=found.seeds,
        slices={name: _slices(found, kind, name, pairing.test, spec.metric.better) for name in by},
        gained=tuple(mover(int(u)) for u in up if change[u] > TIE),
        lost=tuple(mover(int(u)) for u in down if change[u] < -TIE),
    )


def kinds(results: Results, dataset: str, users: "pd.Index[str]") -> Kind:
    """Look up the properties of test users.

    Raises:
        StoreError: The folder lacks the data set's items and test rows, or does not know a user.
    """
    items, rows = known(results, dataset)
    rows = rows.set_index("user_id")
    if not users.isin(rows.index).all():
        stranger = users[~users.isin(rows.index)][0]
        raise StoreError(f"{results.root / 'data' / dataset} does not know test user {stranger!r}; run the suite again")
    rows = rows.loc[users]
    target = items.set_index("item_id").loc[rows["target"]]
    return Kind(
        list(map(str, target["title"])), target["group"].to_numpy(np.int64), rows["history"].map(len).to_numpy(np.int64)
    )


def _slices(found: Values, kind: Kind, by: By, name: TestName, better: Direction) -> tuple[Slice, ...]:
    if by == "group":
        parts = [(f"group {g}", kind.group == g) for g in range(8)]
    else:
        parts = [(_length(low, high), (kind.history >= low) & (kind.history <= high)) for low, high in LENGTHS]
    out = []
    for label, inside in parts:
        if inside.any():
            a, b = found.a[:, inside], found.b[:, inside]
            users, tally = int(inside.sum()), stats.tally(a - b, better)
            out.append(Slice(label, users, float(a.mean()), float(b.mean()), paired_test(name, a, b), tally))
    return tuple(out)


def _length(low: float, high: float) -> str:
    return f"{low:g}-{high:g} items" if high < inf else f"{low:g} items or more"


def _ranks(results: Results, records: Sequence[Record], found: Values) -> NDArray[np.int64]:
    """Rank of the target, 0 where it is not in the list, [S, U]."""
    frames = [results.users(r).set_index("user_id")["rank"] for r in records]
    return np.stack([f.loc[found.users].fillna(0).to_numpy(np.int64) for f in frames])
