"""The leaderboard as JSON against a golden file, which is rewritten with UPDATE_GOLDEN=1."""

import json
import os
from pathlib import Path

import pytest

from rlrecbench import report, results

GOLDEN = Path(__file__).parents[1] / "golden" / "leaderboard.json"
METRICS = ("recall@10", "ndcg@10", "dgu@10", "entropy@10")  # of users, the primary one, and two of all lists


def test_json_golden(complete: Path) -> None:
    """Numbers to 1e-9: the last digit of a mean is the processor's."""
    text = report.render(results.load(complete), "json", METRICS)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    expected = json.loads(
        GOLDEN.read_text(encoding="utf-8"),
        parse_float=lambda number: pytest.approx(float(number), rel=1e-9, abs=1e-15),
    )
    assert json.loads(text) == expected
