"""What ``rlrecbench compare`` prints of two rows: what came out, what it rests on, who gained and who lost."""

from collections.abc import Sequence
from math import isfinite

from rich import box
from rich.table import Table as Grid
from rich.text import Text

from rlrecbench.metrics import parse
from rlrecbench.report import words
from rlrecbench.report.captions import TESTS
from rlrecbench.report.comparing import Line, Pairing
from rlrecbench.report.drilldown import Drill, Mover, Slice
from rlrecbench.results import NO_BACKBONE
from rlrecbench.stats import WARNINGS, StatsConfig, Tally, Test, TestName, Verdict
from rlrecbench.stats.draws import FEWEST

_STYLE: dict[Verdict, str] = {"better": "green", "worse": "red", "equivalent": "", "cannot tell": "dim"}
_TITLE = 30  # characters of a target's title
_INTERVAL = {"A - B [95 %]": 17, "relative [95 %]": 13}  # characters of "[-0.1234,+0.1234]", which stays on one line
_SHOWN = 5  # ranks of one user, then "…"
_BY = {"group": "popularity group of the target", "history": "history"}


def pair(pairing: Pairing, config: StatsConfig) -> list[Grid | Text]:
    """Draw one pair of rows."""
    where = pairing.dataset if pairing.label == NO_BACKBONE else f"{pairing.dataset} · {pairing.label}"
    title = f"{where}: A = {pairing.a}, B = {pairing.b}"
    if not pairing.lines:
        return [Text(f"{title}\nNot compared: {pairing.remark}.")]
    outcome = grid(title, ["metric", "A", "B", "A - B [95 %]", "p", "p corr.", "A is"])
    rests = grid(
        "What it rests on",
        ["metric", "relative [95 %]", "d_z", "won / lost / tied", "seeds", "variance", "needs"],
        " ".join(caption(pairing, config)),
    )
    for line in pairing.lines:
        outcome.add_row(*_outcome(line, line.metric == pairing.primary))
        rests.add_row(*_rests(line, len(pairing.seeds)))
    return [outcome, rests]


def drilled(found: Drill) -> list[Grid | Text]:
    """Draw who gained and who lost."""
    out: list[Grid | Text] = []
    for by, slices in found.slices.items():
        part = grid(
            f"{found.metric} by {_BY[by]}", [by, "users", "A", "B", "A - B [95 %]", "won / lost / tied", "seeds"]
        )
        for one in slices:
            part.add_row(*_slice(one, len(found.seeds)))
        out.append(part)
    for title, movers in (("Gained most under A", found.gained), ("Lost most under A", found.lost)):
        part = grid(f"{title}, {found.metric}", ["user", "A - B", "rank, A", "rank, B", "target", "group", "history"])
        for mover in movers:
            part.add_row(*_mover(mover))
        out.append(part)
    note = Text(
        f"{_seeds(found.seeds)}; one rank per seed, {words.ABSENT}: not in the list. "
        "Group: popularity group of the target, 0 the most popular; history: items that the model sees. "
        "Intervals of parts are not corrected for their number: they show where a difference comes from and are no "
        "further tests.",
        style="dim italic",
    )
    return [*out, note]


def grid(title: str, heads: Sequence[str], caption: str = "") -> Grid:
    """Return an empty table, its first column and a last one of words to the left."""
    out = Grid(
        title=Text(title),
        caption=Text(caption) if caption else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, head in enumerate(heads):
        words_in = i == 0 or head in ("A is", "target")
        out.add_column(
            head,
            justify="left" if words_in else "right",
            no_wrap=i == 0,
            overflow="fold",
            min_width=_INTERVAL.get(head),
        )
    return out


def caption(pairing: Pairing, config: StatsConfig) -> list[str]:
    """Return the sentences under a pair: what the test is and what it speaks of."""
    tests = [line.test for line in pairing.lines if line.test is not None]
    out = [f"{_seeds(pairing.seeds)}, {pairing.users:,} test users."]
    if pairing.remark:
        out.append(f"{pairing.remark[0].upper()}{pairing.remark[1:]}.")
    if len(pairing.seeds) == 1:
        out.append("One seed: p and intervals speak of these two checkpoints, and nothing can be said about methods.")
        if config.test == "t-seeds":
            out.append("With one seed t-seeds has nothing to go by, so its p is 1.")
    name: TestName = "t-users" if len(pairing.seeds) == 1 and config.test == "two-way" else config.test
    out.append(f"p: {TESTS[name].replace('one-sided', 'two-sided')}.")
    if config.test in WARNINGS:
        out.append(WARNINGS[config.test])
    if len(pairing.seeds) > 1 and any(t.level == "checkpoints" for t in tests):
        out.append("It speaks of these checkpoints, not of methods: it takes the seeds as fixed.")
    n = sum(line.test is not None and line.metric != pairing.primary for line in pairing.lines)
    if any(line.metric == pairing.primary for line in pairing.lines):
        out.append(
            f"{pairing.primary} is the one declared comparison: its p is uncorrected, and holds only if A and B were "
            "chosen before their numbers were seen."
        )
    if n:
        out.append(f"The other {n}: Benjamini-Hochberg." if n > 1 else "The other one: uncorrected, it is alone.")
    out += _others(pairing)
    if pairing.left_out:
        out.append(f"Left out, as not both rows have them: {', '.join(pairing.left_out)}.")
    out += [
        f"Equivalent: the interval lies within ±{100 * config.min_effect:g} % of B.",
        "Won / lost / tied: users, by their mean over seeds; seeds: won by A. d_z: mean over standard deviation of the "
        "users' differences. Variance: shares of the mean's variance that "
        "come from users/seeds/both together, in %. Needs: about how many seeds would settle it.",
    ]
    return out


def cut(text: str, width: int) -> str:
    """Shorten a text to a width, with "…" at the end where something is missing."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def interval(test: Test, scale: float = 1.0, form: str = "+.4f") -> str:
    """A difference with its interval; the difference alone where the interval has no ends."""
    mean, low, high = (_signed(scale * v, form) for v in (test.mean, test.low, test.high))
    return f"{mean} [{low},{high}]" if isfinite(test.low) and test.low < test.high else mean


def _signed(value: float, form: str) -> str:
    """Write a number, and what rounds to zero with "+": its sign is the processor's."""
    text = format(value, form)
    return format(0.0, form) if text.startswith("-") and float(text) == 0 else text


def _outcome(line: Line, primary: bool) -> list[str | Text]:
    head = f"{line.metric} {words.ARROW[line.better]}"
    values = [words.number(line.a), words.number(line.b)]
    if line.test is None or line.verdict is None or line.corrected_p is None:
        return [head, *values, *[words.ABSENT] * 3, ""]
    verdict = "checkpoint-level only" if line.test.checkpoint_only else line.verdict
    return [
        head,
        *values,
        interval(line.test),
        words.p_value(line.test.p),
        words.ABSENT if primary else words.p_value(line.corrected_p),
        Text(verdict, _STYLE[line.verdict]),
    ]


def _rests(line: Line, seeds: int) -> list[str]:
    test, effect, share = line.test, line.effect, line.relative
    relative = words.ABSENT
    if share is not None:
        mean, low, high = (_signed(100 * v, "+.1f") for v in share)
        relative = f"{mean} % [{low},{high}]" if isfinite(share.low) else f"{mean} %"
    swap = f"swap p {words.p_value(line.swap_p)}" if line.swap_p is not None else words.ABSENT
    return [
        f"{line.metric} {words.ARROW[line.better]}",
        relative,
        f"{effect.standardised:+.3f}" if effect is not None and effect.standardised is not None else words.ABSENT,
        _tally(effect.tally) if effect is not None else swap,
        f"{effect.tally.seeds_won}/{seeds}" if effect is not None else words.ABSENT,
        _split(test),
        _needs(line),
    ]


def _needs(line: Line) -> str:
    if line.seeds_needed is not None:
        return f"~{line.seeds_needed}"
    return ">100" if line.verdict == "cannot tell" and line.test is not None and line.test.variance else ""


def _tally(tally: Tally) -> str:
    return f"{tally.users_won:,} / {tally.users_lost:,} / {tally.users_tied:,}"


def _split(test: Test | None) -> str:
    """Shares of the squared standard error: users / n, seeds / S and interaction / (n S)."""
    if test is None or test.variance is None or not test.users:
        return words.ABSENT
    v = test.variance
    parts = [v.users / test.users, v.seeds / test.seeds, v.interaction / (test.users * test.seeds)]
    total = sum(parts)
    return "/".join(f"{100 * p / total:.0f}" for p in parts) if total > 0 else words.ABSENT


def _slice(one: Slice, seeds: int) -> list[str]:
    return [
        one.name,
        f"{one.users:,}",
        words.number(one.a),
        words.number(one.b),
        interval(one.test),
        _tally(one.tally),
        f"{one.tally.seeds_won}/{seeds}",
    ]


def _mover(mover: Mover) -> list[str]:
    def ranks(found: tuple[int | None, ...]) -> str:
        shown = " ".join(words.ABSENT if r is None else str(r) for r in found[:_SHOWN])
        return shown + (" …" if len(found) > _SHOWN else "")

    return [
        mover.user,
        f"{mover.difference:+.4f}",
        ranks(mover.a),
        ranks(mover.b),
        cut(mover.target, _TITLE),
        str(mover.group),
        str(mover.history),
    ]


def _seeds(seeds: Sequence[int]) -> str:
    listed = ", ".join(map(str, seeds))
    return f"Means over {len(seeds)} seeds ({listed})" if len(seeds) > 1 else f"One seed ({listed})"


def _others(pairing: Pairing) -> list[str]:
    """What the metrics rest on whose test is not the declared one; those that are undefined need no word."""
    found: dict[str, list[str]] = {}
    for line in pairing.lines:
        if line.effect is None and isfinite(line.a) and isfinite(line.b):
            found.setdefault(_resting(line, pairing), []).append(line.metric)
    return [f"{', '.join(names)}: {how}." for how, names in found.items()]


def _resting(line: Line, pairing: Pairing) -> str:
    if line.swap_p is not None:
        return (
            "of all lists together; their test resamples users' lists, seed by seed. Swap p: of exchanging "
            "users' lists between A and B, which speaks of these checkpoints"
        )
    metric = parse(line.metric).metric
    if line.level == "user":
        why = "no values per user are stored"
    elif metric.needs is not None:
        why = "of all lists together, and of more than their items, which is not stored per user"
    elif metric.level == "list":
        why = "of all lists together, and not resampled"
    elif pairing.users < FEWEST:
        why = f"of all lists together; {FEWEST} users are needed to resample them"
    else:
        why = f"of all lists together; without data/{pairing.dataset} in the results the lists cannot be read"
    return f"{why}; " + ("Welch's test on the seeds' values" if line.test is not None else "not tested: one seed")
