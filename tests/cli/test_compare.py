"""``rlrecbench compare``: two rows against brute force, who gained and who lost, two folders."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, ttest_ind

from rlrecbench import results, stats
from rlrecbench.cli.compare import compare
from rlrecbench.errors import ConfigError, StoreError
from rlrecbench.report.changes import changes
from rlrecbench.report.comparing import Pairing, Side, pairings
from rlrecbench.report.drilldown import drill, properties
from rlrecbench.report.leaderboard import declared
from rlrecbench.report.pair_tables import interval

SEEDS = (42, 43, 44)
Floats = NDArray[np.float64]
Ranking = Callable[[str, int], NDArray[np.int64]]


def ndcg(ranking: Ranking, method: str, seeds: tuple[int, ...] = SEEDS) -> Floats:
    """NDCG at 4 of every user by a loop, [S, U]."""
    out = np.zeros((len(seeds), 24))
    for s, seed in enumerate(seeds):
        for u, items in enumerate(ranking(method, seed)):
            for place, item in enumerate(items):
                if item == (5 * u + 2) % 16:
                    out[s, u] = 1 / np.log2(place + 2)
    return out


def pair(folder: Path, a: str = "dpo", b: str = "sft", **options: Any) -> Pairing:
    found = results.load(folder)
    config = declared(found, {"test": options.pop("test", "two-way")})
    (one,) = pairings(Side(found, a), Side(found, b), config, **options)
    return one


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(compare, [str(a) for a in arguments])


def told(*arguments: object) -> str:
    """Standard output, every run of blanks made one."""
    done = ask(*arguments)
    assert done.exit_code == 0, done.exception
    return " ".join(done.output.split())


def test_a_line_against_brute_force(toys: Path, ranking: Ranking) -> None:
    one = pair(toys)
    line = next(x for x in one.lines if x.metric == "ndcg@4")
    a, b = ndcg(ranking, "dpo"), ndcg(ranking, "sft")
    assert [line.a, line.b] == pytest.approx([a.mean(), b.mean()])
    assert line.test is not None
    assert line.effect is not None
    expected = stats.two_way(a - b)
    assert [line.test.mean, line.test.p] == pytest.approx([expected.mean, expected.p])
    u = (a - b).mean(0)
    assert line.effect.tally[:3] == ((u > 1e-9).sum(), (u < -1e-9).sum(), (abs(u) <= 1e-9).sum())
    assert line.effect.standardised == pytest.approx(u.mean() / u.std(ddof=1))
    assert line.relative is not None
    assert line.relative.value == pytest.approx((a.mean() - b.mean()) / b.mean())
    assert (one.seeds, one.users, one.remark) == (SEEDS, 24, "")


def test_the_primary_metric_stands_alone_and_the_others_are_corrected(toys: Path) -> None:
    lines = pair(toys).lines
    p = {x.metric: x.test.p for x in lines if x.test is not None}
    corrected = {x.metric: x.corrected_p for x in lines}
    assert corrected.pop("ndcg@4") == p.pop("ndcg@4")
    assert list(corrected.values()) == pytest.approx(list(false_discovery_control(list(p.values()))))


def test_lists_are_resampled_where_they_can_be_read(toys: Path) -> None:
    one = {x.metric: x for x in pair(toys).lines}["coverage@4"]
    assert one.swap_p is not None
    assert one.test is not None
    assert one.test.name == "two-way"
    shutil.rmtree(toys / "data")
    other = {x.metric: x for x in pair(toys).lines}["coverage@4"]
    assert (other.swap_p, other.a) == (None, one.a)
    assert other.test is not None
    assert other.test.name == "t-seeds"


def test_lists_of_a_permuted_cell_are_paired_by_user(toys: Path, other: Path) -> None:
    """The order of the users in a file does not matter."""
    import pandas as pd

    for path in other.glob("cells/toy/tiger/sft/*/users.parquet"):
        pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    assert [x.swap_p for x in pair(other).lines] == [x.swap_p for x in pair(toys).lines]
    assert [x.test for x in pair(other).lines][:2] == [x.test for x in pair(toys).lines][:2]


def test_seeds_that_one_row_lacks_are_left_out(toys: Path, ranking: Ranking) -> None:
    shutil.rmtree(toys / "cells/toy/tiger/dpo/seed-43")
    one = pair(toys)
    assert one.seeds == (42, 44)
    assert one.remark == "seeds left out: sft alone has 43"
    line = next(x for x in one.lines if x.metric == "ndcg@4")
    assert line.b == pytest.approx(ndcg(ranking, "sft", (42, 44)).mean())
    assert pair(toys, seeds=[43]).remark == "they share no seed among 43: sft alone has 43"
    assert "Not compared: they share no seed" in told(toys, "dpo", "sft", "--seeds", "43")


def test_one_seed_speaks_of_checkpoints(toys: Path) -> None:
    text = told(toys, "dpo", "sft", "--seeds", "42")
    assert "checkpoint-level only" in text
    assert "nothing can be said about methods" in text
    assert "paired t-test over users" in text


def test_a_ranker_without_a_backbone_is_a_row(toys: Path, ranking: Ranking) -> None:
    one = pair(toys, "most-popular", "sft")
    assert one.label == "tiger"
    assert one.lines[1].a == pytest.approx(ndcg(ranking, "most-popular").mean())


@pytest.mark.parametrize("test", ["t-seeds", "t-users", "permutation", "bootstrap", "bca", "wilcoxon"])
def test_every_test_can_be_asked_for(toys: Path, test: str) -> None:
    one = pair(toys, test=test)
    assert one.lines[0].test is not None
    assert one.lines[0].test.name == ("bootstrap" if test == "bca" else test)
    assert ("signed ranks" in told(toys, "dpo", "sft", "--test", test)) == (test == "wilcoxon")


def test_seeds_are_tested_on_two_sides(toys: Path, ranking: Ranking) -> None:
    """Whichever row stands first: the papers' one-sided test is for a method against a baseline."""
    for a, b in (("dpo", "sft"), ("sft", "dpo")):
        lines = {x.metric: x for x in pair(toys, a, b, test="t-seeds").lines}
        x, y = (ndcg(ranking, method) for method in (a, b))
        for metric, left, right in (("ndcg@4", x, y), ("recall@4", x > 0, y > 0)):
            test = lines[metric].test
            assert test is not None
            assert test.p == pytest.approx(ttest_ind(left.mean(1), right.mean(1), equal_var=False).pvalue)
    assert "p: two-sided Welch t-test on seed means" in told(toys, "dpo", "sft", "--test", "t-seeds")
    assert "t-seeds has nothing to go by" in told(toys, "dpo", "sft", "--test", "t-seeds", "--seeds", "42")


def test_what_rounds_to_zero_has_no_sign_of_its_own() -> None:
    test = stats.two_way(np.full((2, 4), -1e-17))
    assert interval(replace(test, low=-0.1, high=-1e-17)) == "+0.0000 [-0.1000,+0.0000]"


def test_parts_add_up_to_the_whole(toys: Path, ranking: Ranking) -> None:
    found = results.load(toys)
    one = pair(toys)
    split = drill(Side(found, "dpo"), Side(found, "sft"), one, "ndcg@4", ("group", "history"))
    a, b = ndcg(ranking, "dpo"), ndcg(ranking, "sft")
    for slices in split.slices.values():
        assert sum(x.users for x in slices) == 24
        assert sum(x.users * x.a for x in slices) / 24 == pytest.approx(a.mean())
        assert sum(x.users * x.test.mean for x in slices) / 24 == pytest.approx((a - b).mean())
    group = (5 * np.arange(24) + 2) % 16 // 2
    third = split.slices["group"][3]
    assert (third.name, third.users) == ("group 3", (group == 3).sum())
    assert third.b == pytest.approx(b[:, group == 3].mean())
    names = [x.name for x in split.slices["history"]]
    assert names == ["0-2 items", "3-5 items", "6-10 items", "11-20 items", "21 items or more"]
    assert split.slices["history"][-1].users == 6


def test_who_gained_and_lost_most(toys: Path, ranking: Ranking) -> None:
    found = results.load(toys)
    split = drill(Side(found, "dpo"), Side(found, "sft"), pair(toys), "ndcg@4", ())
    change = (ndcg(ranking, "dpo") - ndcg(ranking, "sft")).mean(0)
    order = sorted(range(24), key=lambda u: (-change[u], u))
    assert [m.user for m in split.gained] == [f"u{u}" for u in order if change[u] > 0][:10]
    assert [m.difference for m in split.lost] == pytest.approx(sorted(c for c in change if c < -1e-9)[:10])
    first = split.gained[0]
    number = int(first.user[1:])
    target = (5 * number + 2) % 16
    assert (first.target, first.group) == (f"Title {target}", target // 2)
    places = [list(ranking("dpo", s)[number]) for s in SEEDS]
    assert first.a == tuple(p.index(target) + 1 if target in p else None for p in places)


def test_users_cannot_be_told_apart_without_values_or_data(toys: Path) -> None:
    found = results.load(toys)
    sides = Side(found, "dpo"), Side(found, "sft")
    with pytest.raises(ConfigError, match="dgu@4 has no value per user"):
        drill(*sides, pair(toys), "dgu@4", ())
    with pytest.raises(ConfigError, match="no property 'groups'; did you mean 'group'"):
        properties("groups")
    shutil.rmtree(toys / "data")
    found = results.load(toys)
    with pytest.raises(StoreError, match="run the suite again with this version"):
        drill(Side(found, "dpo"), Side(found, "sft"), pair(toys), "ndcg@4", ())


def test_the_text_fits_100_columns_and_names_who_moved(toys: Path) -> None:
    done = ask(toys, "dpo", "sft", "--by", "group,history")
    assert max(map(len, done.output.splitlines())) <= 100
    for words in (
        "toy · tiger: A = dpo, B = sft",
        "Gained most under A",
        "swap p",
        "ndcg@4 is the one declared comparison",
    ):
        assert words in " ".join(done.output.split())


def test_json_has_it_all(toys: Path) -> None:
    done = ask(toys, "dpo", "sft", "--by", "group", "--json", "--seeds", "42")
    (block,) = json.loads(done.output)["blocks"]
    assert [line["metric"] for line in block["lines"]] == ["recall@4", "ndcg@4", "dgu@4", "coverage@4"]
    assert block["records"][0] == ["toy/tiger/dpo seed 42"]
    assert block["lines"][1]["effect"]["tally"]["users_won"] > 0
    assert sum(part["users"] for part in block["drill"]["slices"]["group"]) == 24


def test_wrong_requests(toys: Path) -> None:
    with pytest.raises(ConfigError, match=r"no method 'dop' in .*; did you mean 'dpo'"):
        pair(toys, "dop")
    with pytest.raises(ConfigError, match="recall@2"):
        pair(toys, metrics=["recall@2"])
    with pytest.raises(ConfigError, match="has no dataset 'beauty'"):
        pair(toys, only=["dataset=beauty"])
    with pytest.raises(ConfigError, match="one of dataset, backbone"):
        pair(toys, only=["method=sft"])
    assert ask(toys, "dpo").exit_code == 2
    assert "is one row; give two" in ask(toys, "dpo").output
    assert "not a seed" in ask(toys, "dpo", "sft", "--seeds", "a").output
    assert "compared whole" in ask(toys, toys, "--by", "group").output
    assert ask(toys, "a", "b", "c").exit_code == 2
    with pytest.raises(ConfigError, match="no seed 1 of dpo and sft; done: 42, 43, 44"):
        pair(toys, seeds=[1])
    with pytest.raises(ConfigError, match="no seed 1 of dpo and sft"):
        pair(toys, seeds=[42, 1])
    with pytest.raises(ConfigError, match=r"A and B are the same row, sft of .*toys; name two rows"):
        raise_of(ask(toys, "sft", "sft"))
    with pytest.raises(ConfigError, match="the same row"):
        raise_of(ask(toys, "sft", f"{toys}/../toys:sft"))


def test_a_row_of_another_folder(toys: Path, other: Path, cell: Callable[..., Path]) -> None:
    cell(other, "tiger", "sft", 42, like=("dpo", 42))
    text = told(toys, "sft", f"{other}:sft", "--metrics", "ndcg@4")
    assert f"B = sft of {other}" in text
    with pytest.raises(ConfigError, match="no method 'sfd'"):
        raise_of(ask(toys, "sft", f"{other}:sfd"))


def test_folders_with_other_metrics_are_compared_on_the_common_ones(
    toys: Path, other: Path, cell: Callable[..., Path]
) -> None:
    suite = json.loads((other / "suite.json").read_text())
    (other / "suite.json").write_text(json.dumps(suite | {"metrics": ["recall@4", "ndcg@4", "gini@4"]}))
    for seed in SEEDS:
        cell(other, "tiger", "dpo", seed, metrics={"recall@4": 0.5, "ndcg@4": 0.25, "gini@4": 0.1})
    text = told(toys, f"{other}:dpo", "dpo")
    assert f"A=dpoof{other},B=dpoof{toys}" in text.replace(" ", "")  # long paths are broken into lines
    assert "Left out, as not both rows have them: gini@4, dgu@4, coverage@4." in text
    (block,) = json.loads(ask(toys, "sft", f"{other}:dpo", "--json").output)["blocks"]
    assert [line["metric"] for line in block["lines"]] == ["recall@4", "ndcg@4"]
    assert block["left_out"] == ["dgu@4", "coverage@4", "gini@4"]
    with pytest.raises(ConfigError, match=r"dpo of .*other and dpo of .*toys have no dgu@4 in common; both have: rec"):
        raise_of(ask(toys, f"{other}:dpo", "dpo", "--metrics", "dgu@4,ndcg@4"))


def raise_of(done: Result) -> None:
    assert done.exception is not None
    raise done.exception


def test_equal_folders(toys: Path, other: Path) -> None:
    found = changes(results.load(toys), results.load(other))
    assert (found.cells, found.equal, found.changes) == (9, 9, ())
    assert "9 cells in both: 9 equal to the byte" in told(toys, other)


def test_a_cell_that_changed(toys: Path, other: Path, cell: Callable[..., Path], ranking: Ranking) -> None:
    cell(other, "tiger", "sft", 43, like=("dpo", 43))
    shutil.rmtree(other / "cells/toy/none/most-popular/seed-44")
    found = changes(results.load(toys), results.load(other))
    assert (found.cells, found.equal) == (8, 7)
    assert (found.only_old, found.only_new) == (("toy/none/most-popular seed 44",), ())
    (change,) = found.changes
    assert (change.row, change.seeds, change.different) == ("toy/tiger/sft", SEEDS, (43,))
    before, after = ndcg(ranking, "sft"), ndcg(ranking, "sft")
    after[1] = ndcg(ranking, "dpo", (43,))[0]
    assert change.ranks == (before != after).any(0).sum()
    line = change.lines[1]
    assert [line.old, line.new] == pytest.approx([before.mean(), after.mean()])
    assert line.test is not None
    assert line.test.p == pytest.approx(stats.two_way(after - before).p)
    assert "1 of 3 cells differ" in told(toys, other)


def test_lists_alone_can_differ(toys: Path, other: Path) -> None:
    """Equal metrics are not enough: scores or items below the target may have moved."""
    import pandas as pd

    path = other / "cells/toy/tiger/sft/seed-42/ranked.parquet"
    pd.read_parquet(path).assign(score=1.0).to_parquet(path, index=False)
    found = changes(results.load(toys), results.load(other))
    assert (found.equal, found.changes[0].ranks) == (8, 0)


def test_folders_that_do_not_compare(toys: Path, other: Path, cell: Callable[..., Path]) -> None:
    shutil.rmtree(other / "cells")
    for seed in SEEDS:
        cell(other, "tiger", "sft", seed, protocol={"options": {"max_history": 10}})
    with pytest.raises(StoreError, match=r"options.max_history is 20 and 10, in this order"):
        changes(results.load(toys), results.load(other))
    shutil.rmtree(other / "cells")
    with pytest.raises(StoreError, match=r"share no cell.*the second none"):
        changes(results.load(toys), results.load(other))
    with pytest.raises(ConfigError, match=r"no seed 1 of .*toys or .*other; done: 42, 43, 44"):
        changes(results.load(toys), results.load(other), seeds=[1])


def test_different_users_are_refused_by_name(toys: Path, other: Path, cell: Callable[..., Path]) -> None:
    cell(other, "tiger", "sft", 42, keep=np.arange(22))
    with pytest.raises(StoreError, match=r"different users.*2 of 24 only in .*u22, u23"):
        changes(results.load(toys), results.load(other))
    cell(toys, "tiger", "sft", 42, keep=np.arange(1, 24))
    with pytest.raises(StoreError, match=r"1 of 24 only in toy/tiger/dpo seed 42 \(u0\)"):
        pair(toys)


def test_an_undefined_value_is_no_number(toys: Path, cell: Callable[..., Path]) -> None:
    metrics = json.loads((toys / "cells/toy/tiger/sft/seed-42/metrics.json").read_text())["metrics"]
    cell(toys, "tiger", "sft", 42, metrics=metrics | {"dgu@4": None})
    line = next(x for x in pair(toys).lines if x.metric == "dgu@4")
    assert (line.test, line.verdict, line.corrected_p) == (None, None, None)
    assert "n/a" in told(toys, "dpo", "sft")
    (block,) = json.loads(ask(toys, "dpo", "sft", "--json").output)["blocks"]
    assert block["lines"][2]["b"] is None


def test_an_undefined_value_is_never_tested(toys: Path, other: Path, cell: Callable[..., Path]) -> None:
    """Even where users' values and lists are there: metrics.json says that there is no value."""
    metrics = json.loads((toys / "cells/toy/tiger/sft/seed-42/metrics.json").read_text())["metrics"]
    cell(other, "tiger", "sft", 42, metrics=metrics | {"ndcg@4": None, "coverage@4": None})
    (change,) = changes(results.load(toys), results.load(other)).changes
    assert [x.test is None for x in change.lines] == [False, True, False, True]
    assert [x.test is None for x in pair(other).lines] == [False, True, False, True]
    with pytest.raises(ConfigError, match="ndcg@4 is undefined on toy/tiger/sft seed 42"):
        raise_of(ask(other, "dpo", "sft", "--by", "group"))


def test_why_a_metric_is_not_resampled(toys: Path, cell: Callable[..., Path]) -> None:
    """By hand: what lists hold, what needs more, and one seed, which leaves some metrics untested."""
    for method, extra in (("sft", 0.0), ("dpo", 0.1)):
        for seed in SEEDS:
            path = toys / f"cells/toy/tiger/{method}/seed-{seed}/metrics.json"
            metrics = json.loads(path.read_text())["metrics"]
            beside = {"generation-std@4": seed / 100 + extra, "collab-user-range@4": extra + 0.01 * (seed % 3)}
            cell(toys, "tiger", method, seed, metrics=metrics | beside)
    asked = "--metrics", "ndcg@4,coverage@4,generation-std@4,collab-user-range@4"
    text = told(toys, "dpo", "sft", *asked)
    resampled = "coverage@4: of all lists together; their test resamples users' lists, seed by seed."
    more = "generation-std@4: of all lists together, and of more than their items, which is not stored per user; "
    unstored = "collab-user-range@4: no values per user are stored; "
    welch, untested = "Welch's test on the seeds' values.", "not tested: one seed."
    assert all(sentence in text for sentence in (resampled, more + welch, unstored + welch))
    one = told(toys, "dpo", "sft", *asked, "--seeds", "42")
    assert all(sentence in one for sentence in (resampled, more + untested, unstored + untested))
    assert "Welch" not in one
    shutil.rmtree(toys / "data")
    unread = "coverage@4: of all lists together; without data/toy in the results the lists cannot be read; "
    assert unread + welch in told(toys, "dpo", "sft", *asked)
    assert unread + untested in told(toys, "dpo", "sft", *asked, "--seeds", "42")


def test_too_few_users_to_resample(toys: Path, cell: Callable[..., Path]) -> None:
    for method in ("sft", "dpo"):
        for seed in SEEDS:
            cell(toys, "tiger", method, seed, keep=np.arange(9))
    shutil.rmtree(toys / "cells/toy/none")
    text = told(toys, "dpo", "sft", "--metrics", "ndcg@4,coverage@4")
    assert "coverage@4: of all lists together; 10 users are needed to resample them; Welch's test" in text
