"""What a suite declares about its leaderboard: rows of methods or of backbones, and a baseline among them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlrecbench import suite as suites
from rlrecbench.errors import ConfigError

GOOD: dict[str, Any] = {
    "name": "t",
    "datasets": ["ml-100k"],
    "backbones": [{"tiger": {"as": "rkmeans"}}, {"tiger": {"as": "wide", "ids": {"kind": "rkmeans", "codes": 512}}}],
    "methods": ["most-popular", "sft", "dpo"],
}


def _load(folder: Path, **changes: Any) -> suites.Suite:
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return suites.load(path)


@pytest.mark.parametrize(
    "stats",
    [
        {},
        {"baseline": "dpo"},
        {"baseline": "most-popular"},
        {"rows": "backbones"},
        {"rows": "backbones", "baseline": "wide"},
        {"rows": "backbones", "baseline": "most-popular"},
    ],
)
def test_a_baseline_may_be_any_row(tmp_path: Path, stats: dict[str, str]) -> None:
    """The suite keeps what is written, and that nothing is: the table then takes sft or the first backbone."""
    kept = _load(tmp_path, stats=stats).as_json()["stats"]
    assert (kept["rows"], kept["baseline"]) == (stats.get("rows", "methods"), stats.get("baseline"))


def test_a_suite_without_sft_needs_no_baseline(tmp_path: Path) -> None:
    assert _load(tmp_path, methods=["most-popular", "item-graph"], backbones=[]).stats.baseline is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"stats": {"baseline": "stf"}},
            r"x\.yaml: stats\.baseline: no row 'stf' among the methods; did you mean 'sft'\?$",
        ),
        (
            {"stats": {"baseline": "wide"}},
            r"stats\.baseline: no row 'wide' among the methods; known: most-popular, sft, dpo$",
        ),
        (
            {"stats": {"rows": "backbones", "baseline": "sft"}},
            r"stats\.baseline: no row 'sft' among the backbones; known: rkmeans, wide, most-popular$",
        ),
        (
            {"stats": {"rows": "backbones", "baseline": "rkmean"}},
            r"stats\.baseline: no row 'rkmean' among the backbones; did you mean 'rkmeans'\?$",
        ),
        ({"stats": {"rows": "method"}}, r"stats\.rows: .*'methods' or 'backbones'"),
        (
            {"stats": {"rows": "backbones"}, "methods": ["sft", {"most-popular": {"as": "wide"}}]},
            r"methods\[1\]: 'wide' is also a backbone's label.*'as: \.\.\.'",
        ),
    ],
)
def test_a_baseline_that_is_no_row_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        _load(tmp_path, **changes)


def test_a_method_may_be_called_like_a_backbone_where_both_are_not_rows(tmp_path: Path) -> None:
    for rows, method in (("methods", {"most-popular": {"as": "wide"}}), ("backbones", {"dpo": {"as": "wide"}})):
        assert _load(tmp_path, stats={"rows": rows}, methods=["sft", method]).stats.rows == rows


def test_the_identifiers_suite_compares_backbones_that_differ_in_identifiers_alone() -> None:
    made = suites.load(suites.find("ablations/identifiers"))
    assert (made.stats.rows, made.stats.baseline) == ("backbones", "rkmeans")
    assert [b.label for b in made.backbones] == ["rkmeans", "rqvae", "letter", "letter-without-cf"]
    assert {str({k: v for k, v in b.settings.items() if k != "ids"}) for b in made.backbones} == {"{'preset': 'tiny'}"}
    assert len({str(b.settings["ids"]) for b in made.backbones}) == 4
