"""Two rows, metric by metric: the data behind ``rlrecbench compare RESULTS A B``. Nothing is rounded here."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np

from rlrecbench import stats
from rlrecbench.config import nearest
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.metrics import parse
from rlrecbench.report.cells import check_seeds, defined, of_lists, paired_test, same_protocol, values
from rlrecbench.report.table import Level
from rlrecbench.results import Block, Record, Results
from rlrecbench.stats import Direction, Effect, Interval, StatsConfig, Test, TestName, Verdict
from rlrecbench.stats.lists import Difference


class Side(NamedTuple):
    """One of the two rows."""

    results: Results
    label: str

    def named(self, other: "Side") -> str:
        """The label; with the folder where the other row is in another one."""
        return self.label if self.results is other.results else f"{self.label} of {self.results.root}"


@dataclass(frozen=True)
class Line:
    """One metric of both rows.

    Attributes:
        metric: Full name.
        better: Direction of the metric.
        level: "user" for a mean of per-user values, "list" for a value of all lists together.
        a: Mean of A over the common seeds; NaN where it is undefined.
        b: That of B.
        test: Of A - B; None where the metric is undefined for a seed, or where neither users' values nor lists can be
            resampled and there is one seed only.
        corrected_p: The p of the primary metric as it is, the one declared comparison; those of the others after
            Benjamini and Hochberg over the others. None without a test.
        effect: Sizes; None for a metric of all lists together.
        swap_p: For a metric of all lists together: p of swapping users' lists between these checkpoints; None where
            the lists cannot be read.
        verdict: What it came to; None without a test.
        seeds_needed: About how many seeds would settle a "cannot tell"; None if not known.
    """

    metric: str
    better: Direction
    level: Level
    a: float
    b: float
    test: Test | None = None
    corrected_p: float | None = None
    effect: Effect | None = None
    swap_p: float | None = None
    verdict: Verdict | None = None
    seeds_needed: int | None = None

    @property
    def relative(self) -> Interval | None:
        """The difference as a share of B's mean; without sizes, the interval of the difference is divided by it."""
        if self.effect is not None or self.test is None or not self.b:
            return self.effect.relative if self.effect is not None else None
        return Interval(*(v / abs(self.b) for v in (self.test.mean, self.test.low, self.test.high)))


@dataclass(frozen=True)
class Pairing:
    """Two rows of one block.

    Attributes:
        dataset: Name.
        label: Of the block: a backbone, or a method where rows are backbones.
        a: How A is named.
        b: How B is named.
        primary: The suite's primary metric.
        test: Name of the test of per-user metrics.
        seeds: Seeds that both have.
        users: Test users.
        lines: By metric; empty where they share no seed.
        records: Cells of A and of B, those of the common seeds.
        remark: Why there are no lines, or which seeds are left out; "" if nothing is.
        left_out: Metrics of the suites that only one of the two rows has, or neither.
    """

    dataset: str
    label: str
    a: str
    b: str
    primary: str
    test: TestName
    seeds: tuple[int, ...]
    users: int
    lines: tuple[Line, ...]
    records: tuple[tuple[Record, ...], tuple[Record, ...]]
    remark: str
    left_out: tuple[str, ...]


def pairings(
    a: Side,
    b: Side,
    config: StatsConfig,
    metrics: Sequence[str] = (),
    seeds: Sequence[int] = (),
    only: Sequence[str] = (),
) -> list[Pairing]:
    """Compare two rows in every block that has both.

    Args:
        a: First row; differences are A - B.
        b: Second row, from the same folder or another.
        config: What is declared about comparisons.
        metrics: Those to compare; none: those of the suites that both rows have.
        seeds: Those to compare on; none: all that both rows have.
        only: Blocks to compare in, as ``dataset=NAME[,NAME]`` and ``backbone=`` (``method=`` where rows are
            backbones); none: all.

    Raises:
        ConfigError: A label, a metric, a seed or a block is unknown, or the two rows are one.
        StoreError: No block has both rows, they were measured on different users, or a file is broken.
    """
    for side in (a, b):
        check_row(side, config)
    if a.label == b.label and a.results.root.resolve() == b.results.root.resolve():
        raise ConfigError(f"A and B are the same row, {a.label} of {a.results.root}; name two rows")
    suites = [m for side in (a, b) for m in side.results.suite["metrics"]]
    names = list(dict.fromkeys(str(parse(m)) for m in metrics or suites))
    others = {(o.dataset, o.label): o for o in b.results.blocks(config.rows)}
    both: list[tuple[Block, tuple[list[Record], list[Record]]]] = []
    seen = set()
    for block in _admitted(a.results, config, only):
        other = others.get((block.dataset, block.label))
        left = block.records.get(a.label, [])
        right = other.records.get(b.label, []) if other is not None else []
        paths = tuple(r.path for r in (*left, *right))
        if left and right and paths not in seen:  # two rankers without a backbone are the same in every block
            seen.add(paths)
            same_protocol(left[0], right[0])
            both.append((block, (left, right)))
    if not both:
        where = a.results.root if a.results is b.results else f"{a.results.root} and {b.results.root}"
        raise StoreError(f"{where}: no data set and backbone has results of both {a.label} and {b.label}")
    shown = f"{a.named(b)} and {b.named(a)}"
    check_seeds(seeds, [r for _, pair in both for side in pair for r in side], shown)
    out = [_pairing(a, b, block, pair, names, config, seeds) for block, pair in both]
    compared = [p for p in out if p.seeds]
    missing = [m for m in names if compared and all(m in p.left_out for p in compared)]
    if missing and (metrics or len(missing) == len(names)):
        raise ConfigError(f"{shown} have no {', '.join(missing)} in common; both have: {_measured(compared)}")
    return out


def check_row(side: Side, config: StatsConfig) -> None:
    """Refuse a label that is no row.

    Raises:
        ConfigError: With the nearest one.
    """
    labels = side.results.axes(config.rows).rows
    if side.label not in labels:
        raise ConfigError(
            f"no {config.rows[:-1]} {side.label!r} in {side.results.root}; {nearest(side.label, labels, 'rows')}"
        )


def _admitted(results: Results, config: StatsConfig, only: Sequence[str]) -> list[Block]:
    """The blocks that every ``--only key=value,value`` admits."""
    of_block = "backbone" if config.rows == "methods" else "method"
    blocks = list(results.blocks(config.rows))
    kept = blocks
    for rule in only:
        key, _, text = rule.partition("=")
        if key not in ("dataset", of_block) or not text:
            raise ConfigError(f"--only {rule}: write key=value[,value], with key one of dataset, {of_block}")
        known = sorted({b.dataset if key == "dataset" else b.label for b in blocks})
        for value in text.split(","):
            if value not in known:
                raise ConfigError(f"--only {rule}: {results.root} has no {key} {value!r}; {nearest(value, known)}")
        kept = [b for b in kept if (b.dataset if key == "dataset" else b.label) in text.split(",")]
    return kept


def _pairing(
    a: Side,
    b: Side,
    block: Block,
    records: tuple[Sequence[Record], Sequence[Record]],
    names: Sequence[str],
    config: StatsConfig,
    wanted: Sequence[int],
) -> Pairing:
    both = {r.seed for r in records[0]} & {r.seed for r in records[1]}
    seeds = tuple(s for s in sorted(both) if not wanted or s in wanted)
    left, right = (tuple(r for r in side if r.seed in seeds) for side in records)
    shown = [a.named(b), b.named(a)]
    lines: list[Line] = []
    found: list[str] = []
    if seeds:
        found = [m for m in names if m in left[0].metrics and m in right[0].metrics]
        resampled = of_lists((a.results, left), (b.results, right), found)
        lines = _judged([_line(a.results, left, right, m, config, resampled.get(m)) for m in found], config)
    return Pairing(
        dataset=block.dataset,
        label=block.label,
        a=shown[0],
        b=shown[1],
        primary=config.primary,
        test=config.test,
        seeds=seeds,
        users=a.results.n_users(left[0]) if seeds else 0,
        lines=tuple(lines),
        records=(left, right),
        remark=_remark(shown, records, seeds, wanted),
        left_out=tuple(m for m in names if seeds and m not in found),
    )


def _line(
    results: Results,
    a: Sequence[Record],
    b: Sequence[Record],
    metric: str,
    config: StatsConfig,
    resampled: Difference | None,
) -> Line:
    spec = parse(metric)
    level: Level = "user" if spec.metric.level == "user" else "list"
    x, y = ([r.metrics.get(metric, nan) for r in side] for side in (a, b))
    line = Line(metric, spec.metric.better, level, float(np.mean(x)), float(np.mean(y)))
    if not defined([*a, *b], metric):
        return line
    if level == "user" and results.has_users([*a, *b], metric):
        found = values(results, a, b, metric)
        test = paired_test(config.test, found.a, found.b)
        return replace(line, test=test, effect=stats.effect(found.a, found.b, line.better))
    if resampled is not None:
        return replace(line, test=resampled.test, swap_p=resampled.p_swap)
    return replace(line, test=stats.t_seeds(x, y)) if len(x) > 1 else line


def _judged(lines: Sequence[Line], config: StatsConfig) -> list[Line]:
    """Correct the metrics that are not primary over each other, and say what each came to."""
    others = [line.test.p for line in lines if line.test is not None and line.metric != config.primary]
    corrected = iter(stats.benjamini_hochberg(others))
    out = []
    for line in lines:
        if line.test is not None:
            p = line.test.p if line.metric == config.primary else next(corrected)
            verdict = stats.verdict(line.test, line.b, config.min_effect, config.alpha, p, line.better)
            needed = stats.seeds_needed(line.test, line.b, config.min_effect, config.alpha)
            line = replace(
                line, corrected_p=p, verdict=verdict, seeds_needed=needed if verdict == "cannot tell" else None
            )
        out.append(line)
    return out


def _remark(
    shown: Sequence[str],
    records: tuple[Sequence[Record], Sequence[Record]],
    seeds: Sequence[int],
    wanted: Sequence[int],
) -> str:
    own = [{r.seed for r in side if not wanted or r.seed in wanted} for side in records]
    alone = [
        f"{label} alone has {', '.join(map(str, sorted(mine - set(seeds))))}"
        for label, mine in zip(shown, own, strict=True)
        if mine - set(seeds)
    ]
    if not seeds:
        asked = f" among {', '.join(map(str, wanted))}" if wanted else ""
        return f"they share no seed{asked}" + (f": {'; '.join(alone)}" if alone else "")
    return f"seeds left out: {'; '.join(alone)}" if alone else ""


def _measured(found: Sequence[Pairing]) -> str:
    """Metrics that the first pairing's cells of both rows hold."""
    left, right = found[0].records
    return ", ".join(m for m in left[0].metrics if m in right[0].metrics) or "none"


def as_data(value: Any) -> Any:
    """Turn what is compared into what JSON holds: cells by name, null for what is undefined or unbounded."""
    if isinstance(value, Record):
        return value.name
    if hasattr(value, "_asdict"):
        return as_data(value._asdict())
    if is_dataclass(value):
        return {f.name: as_data(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {k: as_data(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_data(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value
