"""What stands under every block: how to read it, how it was tested, and what is wrong with it."""

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
        [f"Baseline: {block.baseline}, the best trained row on validation (test was not looked at)."]
        if config.baseline == BEST and block.baseline != BEST
        else []
    )
    family = _CORRECTED[config.correction].format(
        n=block.family,
        comparisons="comparison" if block.family == 1 else "comparisons",
        baseline=block.baseline,
        shared=", none counted less noisy over seeds than the family's mean" if _share_seeds(block) else "",
    )
    tests = [row.comparison.test for row in block.rows if row.comparison is not None]
    several = [test for test in tests if not test.checkpoint_only]
    if not several:
        name = TESTS["t-users" if config.test == "two-way" else config.test]
        return [
            *chosen,
            f"Checkpoint-level only, no stars: one seed cannot tell {config.rows} apart. p: {name}; {family}.",
        ]
    return [
        *chosen,
        f"{star} differs from {block.baseline} on {config.primary}, p < {config.alpha:g}: "
        f"{TESTS[config.test]}; {family}.",
        f"Δ: relative to {block.baseline}'s mean, with its {100 * CONFIDENCE:.0f} % interval; "
        f"equivalent: the interval lies within ±{100 * config.min_effect:g} %.",
        *_doubts(config, block, several),
    ]


def _share_seeds(block: Block) -> bool:
    """Tell whether comparisons lend each other their variance of seeds (:func:`~rlrecbench.stats.family_p`)."""
    return sum(row.comparison is not None and row.comparison.test.variance is not None for row in block.rows) > 1


def _describing(table: Table, block: Block) -> list[str]:
    """Say what the marks on the other metrics mean, where there are any."""
    contrasts = [v.contrast for row in block.rows for v in row.values.values() if v is not None and v.contrast]
    if not any(c.notable for c in contrasts):
        return []
    lists = any(c.swap_p is not None for c in contrasts)
    how = (
        "metrics of all lists together by the spread over users and seeds"
        if lists
        else "metrics without values per user over seeds"
    )
    return [
        f"{NOTABLE} other metrics, descriptive: differs from {block.baseline}, p < {table.config.alpha:g} after "
        f"Benjamini-Hochberg over {block.contrasts} comparisons; {how}."
    ]


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
