"""Names of metrics: cut-offs, aliases, variants, directions, and a newcomer's own metric."""

from typing import Any

import numpy as np
import pytest

from rlrecbench.errors import ConfigError, UnknownNameError
from rlrecbench.metrics import Fit, Lists, Reference, Result, Spec, evaluate, metric, metrics, parse, standard
from rlrecbench.metrics.reference import Floats
from rlrecbench.metrics.tables import Place

HIGHER = [
    "recall",
    "ndcg",
    "mrr",
    "hr-string",
    "ndcg-string",
    "mrr-string",
    "entropy",
    "ttr",
    "ttr-fixed",
    "coverage",
    "item-entropy",
    "collab-mean",
    "collab-std",
    "collab-range",
    "collab-user-range",
]
LOWER = [
    "dgu",
    "mgu",
    "dgu-compat",
    "mgu-compat",
    "gini",
    "kl-popularity",
    "js-popularity",
    "kl-group",
    "js-group",
    "kl-normal",
    "kl-normal-rank",
    "generation-std",
    *(f"fit-{distance}{drawn}" for distance in ("kl", "kl-reverse", "js", "tv") for drawn in ("", "-exact", "-floor")),
    *(f"fit-token-{distance}{drawn}" for distance in ("kl", "kl-reverse", "js") for drawn in ("", "-floor")),
]


@pytest.mark.parametrize(
    ("text", "spec", "full"),
    [
        ("recall@5", Spec("recall", 5), "recall@5"),
        ("hr@5", Spec("recall", 5), "recall@5"),
        ("hr@10-string", Spec("hr-string", 10), "hr@10-string"),
        ("recall@10-string", Spec("hr-string", 10), "hr@10-string"),
        ("dgu@10-compat", Spec("dgu-compat", 10), "dgu@10-compat"),
        ("kl-normal-rank@10", Spec("kl-normal-rank", 10), "kl-normal-rank@10"),
        ("kl-popularity@20", Spec("kl-popularity", 20), "kl-popularity@20"),
        ("ttr-fixed@10", Spec("ttr-fixed", 10), "ttr-fixed@10"),
        ("fit-kl-reverse-exact@1", Spec("fit-kl-reverse-exact", 1), "fit-kl-reverse-exact@1"),
    ],
)
def test_parse(text: str, spec: Spec, full: str) -> None:
    assert parse(text) == spec
    assert str(spec) == full
    assert parse(full) == spec


@pytest.mark.parametrize("text", ["recall", "recall@", "@5", "recall@0", "recall@-1", "recall@5.5", "recall@5@5", ""])
def test_no_cut_off(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml: metrics\[0\]: metric .* is not NAME@K .*'(recall|ndcg)@10'$"):
        parse(text, "x.yaml: metrics[0]")


@pytest.mark.parametrize(
    ("text", "example"), [("recall@0", "recall@10"), ("hr", "hr@10"), ("@5", "ndcg@10"), ("precision@", "ndcg@10")]
)
def test_the_example_is_of_the_same_metric_where_there_is_one(text: str, example: str) -> None:
    with pytest.raises(ConfigError, match=f"write for example '{example}'"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "nearest"), [("recal@5", "recall"), ("ndgc@10", "ndcg"), ("dgu@10-compta", "dgu-compat")]
)
def test_unknown_name_proposes_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"x.yaml: no metric .*did you mean '{nearest}'"):
        parse(text, "x.yaml")


def test_directions_and_levels() -> None:
    known = {entry.name: entry.value for entry in metrics}
    assert {name for name in known if known[name].better == "higher"} == set(HIGHER)
    assert {name for name in known if known[name].better == "lower"} == set(LOWER)
    users = {"recall", "ndcg", "mrr", "hr-string", "ndcg-string", "mrr-string", "collab-user-range"}
    assert {name for name in known if known[name].level == "user"} == users
    assert {name for name in known if known[name].smooth} == {"dgu", "mgu", "kl-group", "js-group"}
    whole = {name for name in known if known[name].level == "list"}
    assert all(name.endswith("-compat") or known[name].needs for name in whole)
    assert {name for name in known if known[name].level == "exposure"} == known.keys() - users - whole


def test_every_entry_says_what_it_is_and_where() -> None:
    for entry in metrics:
        assert len(entry.summary) > 20
        assert "rlrecbench/metrics/" in entry.origin.replace("\\", "/")
    assert len(standard([5, 10], "string", ("probability", "collab", "fit"))) == 2 * len(HIGHER + LOWER)


def test_a_newcomers_metric_is_evaluated_like_ours() -> None:
    reference = Reference(["a", "b"], np.arange(2), np.array([1, 1]), np.array([0, 1]))
    lists = Lists(np.array([[0, 1], [1, 0]]), np.array([0, 0]), reference)
    try:

        @metric("first", better="higher", level="user")
        def first(lists: Lists, k: int) -> Floats:
            """Say whether the target stands first."""
            return np.asarray(lists.rank == 1, np.float64)

        result = evaluate(lists, ["first@3", Spec("first", 3)])
        assert first(lists, 3).tolist() == [1, 0]
    finally:
        del metrics._entries["first"]
    assert result.values == {"first@3": 0.5}
    assert result.per_user["first@3"].tolist() == [1, 0]


def test_standard_metrics_by_credit() -> None:
    item, string = list(map(str, standard([5, 10]))), list(map(str, standard([5, 10], "string")))
    assert item[:6] == ["mrr@5", "mrr@10", "ndcg@5", "ndcg@10", "recall@5", "recall@10"]
    assert set(string) - set(item) == {f"{m}@{k}-string" for m in ("hr", "ndcg", "mrr") for k in (5, 10)}


@pytest.mark.parametrize("kind", [Fit, Lists, Reference, Result, Spec, Place])
def test_what_is_known_of_lists_cannot_be_changed(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen
