"""What the pop-up of a number says: per-seed values, test, interval, p, users, and the cells behind it."""

from math import isfinite

from rlrecbench.report import words
from rlrecbench.report.captions import TESTS
from rlrecbench.report.page.origin import Json, Origin, signed
from rlrecbench.report.table import Block, Column, Comparison, Contrast, Row
from rlrecbench.stats import CONFIDENCE, Test

_CORRECTION = {"holm": "Holm", "bh": "Benjamini and Hochberg", "none": "no correction"}
Facts = list[list[str]]


def detail(origin: Origin, block: Block, row: Row, column: Column) -> Json:
    """Everything known of one metric of one row."""
    value = row.values.get(column.metric)
    records = origin.records(block, row)
    seeds = {s: r.metrics[column.metric] for s, r in records.items() if column.metric in r.metrics}
    facts = [["metric", f"{column.metric}, {column.better} is better; {_level(column)}"]]
    if value is not None:
        facts.append(["mean", words.number(value.mean) + words.spread(value)])
        facts.append(["test users", f"{block.users:,}"])
    if column.metric == origin.table.config.primary and row.comparison is not None:
        facts += compared(origin, block, row.comparison)
    elif value is not None and value.contrast is not None:
        facts += contrasted(origin, block, value.contrast)
    elif row.label == block.baseline:
        facts.append(["comparison", "this is the baseline"])
    elif block.remark:
        facts.append(["comparison", f"none: {block.remark}"])
    return {
        "title": f"{row.label} · {column.metric}",
        "facts": [*facts, ["protocol", block.fingerprint]],
        "seeds": _seeds(origin, block, row, seeds),
    }


def cost_detail(origin: Origin, block: Block, row: Row, name: str, noun: str) -> Json:
    """Everything known of one cost of one row."""
    records = origin.records(block, row)
    costs = {seed: r.cost[name] for seed, r in records.items() if isinstance(r.cost.get(name), (int, float))}
    facts = [["cost", f"{noun}; the table shows the mean over seeds"]]
    if name == "train_s":
        starts = {r.cost["start_train_s"] for r in records.values() if r.cost.get("start_train_s")}
        facts += (
            [["training of its start", ", ".join(f"{words.number(s)} s" for s in sorted(starts))]] if starts else []
        )
    return {"title": f"{row.label} · {noun}", "facts": facts, "seeds": _seeds(origin, block, row, costs)}


def compared(origin: Origin, block: Block, c: Comparison) -> Facts:
    """The comparison with the baseline on the primary metric."""
    config = origin.table.config
    noun = _CORRECTION[config.correction]
    facts = [
        ["against", f"{block.baseline}, mean {words.number(c.baseline_mean)}"],
        *_test(c.test, sided=True),
        ["relative difference", words.effect(c)],
        *_steadied(c.test, c.family_p),
        ["p, corrected", f"{words.p_value(c.corrected_p)} ({noun}, family of {block.family})"],
        ["verdict", words.conclusion(c) + (f", starred at {config.alpha:g}" if c.star else "")],
    ]
    if c.tally is not None:
        facts.append(["users won / lost / tied", words.users(c)])
        facts.append(["seeds won", f"{c.tally.seeds_won} of {c.test.seeds}"])
    return facts


def contrasted(origin: Origin, block: Block, c: Contrast) -> Facts:
    """The comparison with the baseline on another metric."""
    facts = [
        ["against", f"{block.baseline}; descriptive, no verdict"],
        *_test(c.test, sided=False),
        *_steadied(c.test, c.family_p),
        ["p, corrected", f"{words.p_value(c.corrected_p)} (Benjamini and Hochberg, {block.contrasts} comparisons)"],
    ]
    if c.swap_p is not None:
        facts.append(["p of swapped lists", f"{words.p_value(c.swap_p)} (these checkpoints, not corrected)"])
    return facts


def _steadied(test: Test, family_p: float) -> Facts:
    """Give the p that is corrected, where it is not the comparison's own."""
    return [["p, seeds as noisy as the family's", words.p_value(family_p)]] if family_p > test.p else []


def _test(test: Test, sided: bool) -> Facts:
    """What a test found; ``sided``: it asked for one direction where its name says so."""
    facts = [["difference", signed(test.mean)]]
    if isfinite(test.low):
        facts.append([f"{100 * CONFIDENCE:.0f} % interval", f"{signed(test.low)} to {signed(test.high)}"])
    over = f"{test.users:,} users, " if test.users else ""
    name = "t-users" if test.name == "two-way" and test.checkpoint_only else test.name
    noun = TESTS[name] if sided else TESTS[name].removeprefix("one-sided ")
    facts.append(["test", f"{noun}; {over}{test.seeds} {'seed' if test.seeds == 1 else 'seeds'}"])
    if isfinite(test.t) and test.df > 0:
        facts.append(["t (degrees of freedom)", f"{signed(test.t)} ({words.number(test.df)})"])
    facts.append(["speaks of", "these checkpoints only" if test.checkpoint_only else f"these {test.level}"])
    facts.append(["p, raw", words.p_value(test.p)])
    if test.variance is not None:
        v = test.variance
        parts = zip(("users", "seeds", "interaction"), (v.users, v.seeds, v.interaction), strict=True)
        facts.append(["variance split", ", ".join(f"{name} {words.number(part)}" for name, part in parts)])
    return facts


def _level(column: Column) -> str:
    return "mean over users" if column.level == "user" else "of all lists together"


def _seeds(origin: Origin, block: Block, row: Row, values: dict[int, float]) -> list[Json]:
    """One line per seed, done or not: the value as shown and as stored, and the cell or the reason."""
    records, gaps = origin.records(block, row), dict(origin.gaps(block, row))
    out: list[Json] = []
    for seed in sorted({*records, *gaps}):
        if seed in gaps:
            out.append({"seed": seed, "text": words.ABSENT, "why": gaps[seed]})
            continue
        line: Json = {"seed": seed, "cell": origin.number[records[seed].name], "text": words.ABSENT}
        value = values.get(seed)
        if value is None:
            line["why"] = "not measured"
        elif isfinite(value):
            line |= {"text": words.number(value), "exact": repr(float(value))}
        else:
            line |= {"text": words.number(value), "why": "undefined"}
        out.append(line)
    return out
