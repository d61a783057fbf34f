"""What stands under every block: how to read it, how it was tested, and what is wrong with it."""

from math import isnan

from rlrecbench.report.table import Block, Table
from rlrecbench.results import NO_BACKBONE
from rlrecbench.stats import BEST, CONFIDENCE, WARNINGS, StatsConfig, Test, TestName

TESTS: dict[TestName, str] = {
    "two-way": "two-way test, users and seeds crossed",
    "t-seeds": "one-sided Welch t-test on seed means",
    "t-users": "paired t-test over users of seed-averaged values",
    "permutation": "sign-flip permutation over users of seed-averaged values",
    "bootstrap": "paired bootstrap over users of seed-averaged values",
    "bca": "paired BCa bootstrap over users of seed-averaged values",
    "wilcoxon": "Wilcoxon's signed-rank test over users of seed-averaged values",
}
_CORRECTED = {
    "holm": "Holm-corrected over the family of {n} {comparisons} with {baseline}{shared}",
    "bh": "Benjamini-Hochberg-corrected over the family of {n} {comparisons} with {baseline}{shared}",
    "none": "not corrected for {n} {comparisons} with {baseline}",
}
NOTABLE = "°"  # on a metric that is not the primary one
_WRONG = {"invalid": "invalid", "duplicate": "duplicate", "short": "missing"}


def title(block: Block) -> str:
    """Heading of a block."""
    return block.dataset if block.label == NO_BACKBONE else f"{block.dataset} · {block.label}"


def caption(table: Table, block: Block, star: str = "*") -> list[str]:
    """Return the sentences under a block.

    Args:
        table: The leaderboard.
        block: One of its blocks.
        star: How the format writes a star.
    """
    return [
        _reading(table, block),
        *_testing(table, block, star),
        *_describing(table, block),
        *_bare(block),
        *_missing(table, block),
        *_partly(block),
        *_audit(block),
        f"Protocol {block.fingerprint[:12]}.",
    ]


def flawed(audit: dict[str, int]) -> bool:
    """Tell whether a row's lists have invalid, duplicate or missing entries."""
    return any(audit.get(f"{kind}_entries", 0) > 0 for kind in _WRONG)


def empty(table: Table) -> str:
    """Name the blocks in which nothing is done; "" if there are none."""
    names = ", ".join(f"{d} · {b}" if b != NO_BACKBONE else d for d, b in table.empty)
    return f"No results yet: {names}." if names else ""


def _reading(table: Table, block: Block) -> str:
    seeds = sorted({s for row in block.rows for s in row.seeds})
    listed = ", ".join(map(str, seeds))
    over = f"Mean ± standard deviation over {len(seeds)} seeds ({listed})" if len(seeds) > 1 else f"One seed ({listed})"
    return f"{over}, {block.users:,} test users; bold: best, underlined: second."


def _testing(table: Table, block: Block, star: str) -> list[str]:
    config = table.config
    if block.remark:
        return [f"No stars: {block.remark}."]
    chosen = (
        [f"Baseline: {block.baseline}, the best on validation of the rows selected by it (test was not looked at)."]
        if config.baseline == BEST and block.baseline != BEST
        else []
    )
    family = _CORRECTED[config.correction].format(
        n=block.family,
        comparisons="comparison" if block.family == 1 else "comparisons",
        baseline=block.baseline,
        shared=", none counted less noisy over seeds than the family's median" if _share_seeds(block) else "",
    )
    tests = [row.comparison.test for row in block.rows if row.comparison is not None]
    several = [test for test in tests if not test.checkpoint_only]
    interval = (
        f"Δ: relative to {block.baseline}'s mean, with its {100 * CONFIDENCE:.0f} % interval, which is not corrected"
    )
    chosen += _common(block)
    if not several:
        name = TESTS["t-users" if config.test == "two-way" else config.test]
        return [
            *chosen,
            f"Checkpoint-level only, no stars: one seed cannot tell {config.rows} apart. p: {name}; {family}.",
            f"{interval}.",
        ]
    return [
        *chosen,
        f"{star} {_relation(config)} {block.baseline} on {config.primary}, p < {config.alpha:g}: "
        f"{TESTS[config.test]}; {family}.",
        f"{interval}; equivalent: the difference's interval lies within ±{100 * config.min_effect:g} % of that mean.",
        *_doubts(config, block, several),
    ]


def _common(block: Block) -> list[str]:
    """Say which comparisons rest on fewer seeds than their row has, and which rows could not be compared."""
    fewer = [
        f"{row.label} {row.comparison.test.seeds} of {len(row.seeds)}"
        for row in block.rows
        if row.comparison is not None and row.comparison.test.seeds < len(row.seeds)
    ]
    none = [r.label for r in block.rows if r.seeds and r.comparison is None and r.label != block.baseline]
    out = [f"Compared on the seeds in common with {block.baseline}: {', '.join(fewer)}."] if fewer else []
    return out + ([f"Not compared, without a seed and values in common: {', '.join(none)}."] if none else [])


def _relation(config: StatsConfig) -> str:
    """What a star says; the papers' one-sided test never says that a row is worse."""
    return "is better than (one-sided: a worse row is never told apart)" if config.test == "t-seeds" else "differs from"


def _share_seeds(block: Block) -> bool:
    """Tell whether comparisons lend each other their variance of seeds (:func:`~rlrecbench.stats.family_p`)."""
    return sum(row.comparison is not None and row.comparison.test.variance is not None for row in block.rows) > 1


def _describing(table: Table, block: Block) -> list[str]:
    """Say what the marks on the other metrics mean, and how metrics without values per user were tested."""
    found = [(metric, v.contrast) for row in block.rows for metric, v in row.values.items() if v and v.contrast]
    if not any(contrast.notable for _, contrast in found):
        return []
    out = [
        f"{NOTABLE} other metrics, descriptive: differs from {block.baseline}, p < {table.config.alpha:g} after "
        f"Benjamini-Hochberg over {block.contrasts} comparisons."
    ]
    level = {column.metric: column.level for column in table.columns}
    resampled = dict.fromkeys(m for m, contrast in found if contrast.swap_p is not None)
    of_seeds = dict.fromkeys(m for m, c in found if c.swap_p is None and level[m] == "list")
    if resampled:
        out.append(f"{', '.join(resampled)}: users' lists resampled, seed by seed; users and seeds crossed.")
    if of_seeds:
        out.append(f"{', '.join(of_seeds)}: Welch's test on the seeds' values; users' lists were not resampled for it.")
    return out


def _doubts(config: StatsConfig, block: Block, several: list[Test]) -> list[str]:
    """Say where the test does not carry as far as it looks."""
    out = []
    single = [r.label for r in block.rows if r.comparison is not None and r.comparison.test.checkpoint_only]
    if single:
        out.append(f"Checkpoint-level, no star: {', '.join(single)} (one seed in common with {block.baseline}).")
    if config.test in WARNINGS:
        out.append(WARNINGS[config.test])
    if several[0].level == "checkpoints":
        out.append(f"This test speaks of these checkpoints, not of the {config.rows}: it takes the seeds as fixed.")
    if config.test == "two-way" and any(test.seeds == 2 for test in several):
        out.append("With two seeds the two-way test rejects up to 11 % of true nulls at 5 %; use three or more.")
    return out


def _bare(block: Block) -> list[str]:
    names = [row.label for row in block.rows if row.bare]
    if not names or block.label == NO_BACKBONE:
        return []
    return [f"Without a backbone, the same in every block: {', '.join(names)}."]


def _missing(table: Table, block: Block) -> list[str]:
    n = sum(map(len, block.missing.values()))
    if n == 0:
        return []
    cells = sum(len({*row.seeds, *block.missing.get(row.label, ())}) for row in block.rows)
    which = "; ".join(f"{label}: {', '.join(map(str, seeds))}" for label, seeds in block.missing.items())
    failed = f", {block.failed} of them failed" if block.failed else ""
    return [f"{n} of {cells} cells missing{failed} (seeds of {which})."]


def _partly(block: Block) -> list[str]:
    """Name the metrics that some cells of a row lack."""
    lacking = [
        f"{metric} of {row.label} over {n} of {len(row.seeds)} seeds"
        for row in block.rows
        for metric, value in row.values.items()
        if value is not None and 0 < (n := sum(not isnan(v) for v in value.seeds)) < len(row.seeds)
    ]
    return [f"Not in every cell: {'; '.join(lacking)}."] if lacking else []


def _audit(block: Block) -> list[str]:
    out = []
    for row in block.rows:
        counts = [
            f"{row.audit[f'{kind}_entries']:,} {name} in {row.audit.get(f'{kind}_users', 0):,} lists"
            for kind, name in _WRONG.items()
            if row.audit.get(f"{kind}_entries", 0)
        ]
        if counts:
            out.append(f"† {row.label}, places that score nothing: {', '.join(counts)}, all seeds together.")
    return out
