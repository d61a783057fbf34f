"""The HTML page without a browser: its data, its markup, and that it needs nothing from outside."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrecbench import report, results
from rlrecbench.published import Fact
from rlrecbench.report.leaderboard import declared
from rlrecbench.report.order import Order, as_dicts, sentence
from rlrecbench.report.page.cases import pick
from rlrecbench.report.page.curves import POINTS, Line, thin
from rlrecbench.report.page.papers import papers
from rlrecbench.report.ranking import Ranked, Swap
from rlrecbench.report.to_html import content, html
from rlrecbench.stats import Agreement

GOLDEN = Path(__file__).parents[2] / "golden" / "page.json"


def page_of(folder: Path, **named: Any) -> str:
    found = results.load(folder)
    return html(found, report.build(found), **named)


def data_of(folder: Path) -> dict[str, Any]:
    found = results.load(folder)
    return content(found, report.build(found))


class Markup(HTMLParser):
    """Elements and text of a page, scripts and styles apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self.raw = ""

    def handle_data(self, data: str) -> None:
        if not self.raw:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_golden_of_the_data(page_folder: Path) -> None:
    data = data_of(page_folder)
    case = data["script"]["cases"][0]
    part = {
        "facts": data["facts"],
        "question": data["question"],
        "block": {name: part for name, part in data["blocks"][0].items() if name != "caption"},
        "titles": [b["title"] for b in data["blocks"]],
        "exposure": data["exposure"][0]["rows"][0],
        "across": data["across"],
        "details": {key: data["script"]["details"][key] for key in ("b0r1m0", "b0r1m1", "b0r1p", "b0r2m1", "b0r1c0")},
        "cell": data["script"]["cells"][0],
        "points": data["script"]["tradeoffs"]["blocks"][0],
        "case": {**case, "users": case["users"][:2]},
    }
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(part, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    same(json.loads(json.dumps(part)), json.loads(GOLDEN.read_text(encoding="utf-8")), "")


def same(found: Any, expected: Any, where: str) -> None:
    """Compare numbers to 1e-9: the last digit of a mean is the processor's."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), where
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            same(a, b, f"{where}[{i}]")
    else:
        assert found == expected, where


def test_seeds_of_a_number_are_those_of_the_records(page_folder: Path) -> None:
    data = data_of(page_folder)
    found = results.load(page_folder)
    for line in data["script"]["details"]["b0r1m1"]["seeds"]:
        cell = data["script"]["cells"][line["cell"]]
        stored = json.loads((page_folder / cell["path"] / "metrics.json").read_text())
        assert float(line["exact"]) == stored["metrics"]["ndcg@10"]
        assert dict(cell["facts"])["commit"] == stored["provenance"]["commit"]
        assert found.records[line["cell"]].seed == line["seed"]


def test_missing_and_failed_cells_say_why_and_are_never_zero(page_folder: Path, hostile: Any) -> None:
    data = data_of(page_folder)
    ppo = next(r for r in data["blocks"][0]["rows"] if r["label"] == hostile.label)
    assert ppo["note"] == "1 of 3 seeds"
    gaps = [line for line in data["blocks"][0]["gaps"] if line[0] == hostile.label]
    assert gaps == [[hostile.label, 43, f"failed: {hostile.reason}"], [hostile.label, 44, "not done yet"]]
    absent = next(r for r in data["blocks"][1]["rows"] if r["label"] == hostile.label)
    assert [(v["text"], v["sort"]) for v in absent["values"]] == [("—", None)] * 3
    assert [s["text"] for s in data["script"]["details"]["b1r2m0"]["seeds"]] == ["—"] * 3


def test_hostile_text_stays_text(page_folder: Path, hostile: Any) -> None:
    page = page_of(page_folder)
    markup = Markup(page)
    assert hostile.label in markup.text
    assert f"seed 43: failed: {hostile.reason}" in markup.text
    assert "<script>alert" not in page
    assert "<img" not in page
    assert [tag for tag, _ in markup.tags if tag in ("img", "b")] == []
    assert [attrs.get("type") for tag, attrs in markup.tags if tag == "script"] == ["application/json", None]
    inline = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    shown = json.loads(inline)
    assert hostile.title in [title for _, title, _ in shown["cases"][0]["items"]]


def test_nothing_is_loaded(page_folder: Path) -> None:
    page = page_of(page_folder)
    assert re.findall(r"https?://[^\s\"']*", page) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\(|@import|@font-face|fetch\(|XMLHttpRequest|WebSocket|import\(", page)
    loading = [(tag, a) for tag, a in Markup(page).tags if a.get("src") or (tag == "link" and a["href"] != "data:,")]
    assert loading == []
    assert "default-src 'none'" in page


def test_tables_are_in_the_markup(page_folder: Path) -> None:
    page = page_of(page_folder)
    markup = Markup(page)
    value = data_of(page_folder)["blocks"][0]["rows"][1]["values"][1]
    assert f"{value['text']} * {value['spread'].strip()}" in markup.text
    assert "differs from sft on ndcg@10" in markup.text
    assert "† 1 row has places that score nothing dpo, places that score nothing: 9 duplicate in 6 lists" in markup.text
    heads = [a for tag, a in markup.tags if tag == "th"]
    assert all(a.get("scope") in ("col", "row") for a in heads)
    drawings = [a for tag, a in markup.tags if tag == "svg"]
    assert all("aria-label" in a or a.get("aria-hidden") == "true" for a in drawings)
    assert len({a["id"] for _, a in markup.tags if "id" in a}) == sum("id" in a for _, a in markup.tags)


def test_the_page_is_the_same_every_time(page_folder: Path) -> None:
    code = (
        "import sys; from rlrecbench import report, results; from rlrecbench.report.to_html import html;"
        "r = results.load(sys.argv[1]); sys.stdout.reconfigure(encoding='utf-8');"
        "print(html(r, report.build(r)), end='')"
    )
    again = subprocess.run(
        [sys.executable, "-c", code, str(page_folder)], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True
    )
    assert again.stdout.decode() == page_of(page_folder)


def test_what_the_folder_lacks_is_left_out_with_a_sentence(folder: Path) -> None:
    data = data_of(folder)
    assert (data["script"]["cases"], data["curves"]) == ([], [])
    assert data["without_cases"] == ["beauty", "yelp"]
    text = Markup(page_of(folder)).text
    assert "Left out: beauty, yelp. The results folder does not hold the catalogue and the test rows" in text
    for title, name in (("beauty · tiger", "beauty"), ("beauty · letter", "beauty"), ("yelp · tiger", "yelp")):
        assert f"{title} Left out: the results folder does not hold the catalogue of {name}." in text
    assert "Nothing was trained, or no log was kept." in text


def test_of_a_data_set_without_catalogue_every_block_says_so(page_folder: Path) -> None:
    data = data_of(page_folder)
    assert data["without_cases"] == ["yelp"]
    reason = "the results folder does not hold the catalogue of yelp"
    assert [(e["dataset"], e["why"]) for e in data["exposure"]] == [("beauty", ""), ("beauty", ""), ("yelp", reason)]
    assert f"yelp · tiger Left out: {reason}." in Markup(page_of(page_folder)).text


def test_one_block_is_not_compared_across_blocks(page_folder: Path) -> None:
    for path in page_folder.glob("cells/beauty/letter/*/*/metrics.json"):
        path.unlink()
    for path in page_folder.glob("cells/yelp/*/*/*/metrics.json"):
        path.unlink()
    assert data_of(page_folder)["across"] is None
    page = page_of(page_folder)
    assert "Across blocks" not in Markup(page).text
    assert 'id="across' not in page
    assert "#across" not in page


def test_rows_may_be_backbones(transposed: Path) -> None:
    data = data_of(transposed)
    assert (data["noun"], data["block_noun"]) == ("backbone", "method")
    assert data["question"] == "Which backbones rank the held-out items better than rkmeans, by ndcg@10?"
    assert "rqvae, seed 44: failed: out of memory" in Markup(page_of(transposed)).text


def test_exposure_is_that_of_the_lists(page_folder: Path) -> None:
    found = results.load(page_folder)
    block = data_of(page_folder)["exposure"][0]
    shares = []
    for record in (r for r in found.records if (r.backbone, r.method) == ("tiger", "sft")):
        lists = found.lists(record)
        assert lists is not None
        counts = lists.exposure(10).groups
        shares.append(counts / counts.sum())
    row = next(r for r in block["rows"] if r["label"] == "sft")
    assert [g["text"] for g in row["groups"]] == [f"{100 * s:.1f} %" for s in np.mean(shares, axis=0)]
    # Frequencies 256, 128, ... two items each: the first group has 256 / 510 of the histories.
    assert (block["k"], block["history"][0]["text"]) == (10, "50.2 %")
    assert block["history"][0]["bar"] == block["history"][0]["mark"] == 100


def test_exposure_is_that_of_the_primary_metrics_places(complete: Path) -> None:
    """Lists hold ten places, the primary metric looks at five."""
    found = results.load(complete)
    table = report.build(found, None, replace(declared(found, {}), primary="recall@5"))
    page = content(found, table)
    block = page["exposure"][0]
    records = [r for r in found.records if (r.dataset, r.backbone, r.method) == ("beauty", "tiger", "dpo")]
    five = [lists.exposure(5).groups for r in records if (lists := found.lists(r)) is not None]
    shares = np.mean([groups / groups.sum() for groups in five], axis=0)
    row = next(r for r in block["rows"] if r["label"] == "dpo")
    assert (block["k"], [g["text"] for g in row["groups"]]) == (5, [f"{100 * s:.1f} %" for s in shares])
    text = Markup(html(found, table)).text
    assert "the group's share of the first 5 places of all lists, the depth of recall@5" in text
    assert "beauty · tiger top 5, tallest bar" in text


def test_a_row_that_recommends_nothing_is_named(page_folder: Path) -> None:
    for seed in (42, 43, 44):
        (page_folder / f"cells/beauty/tiger/sft/seed-{seed}/titles.parquet").write_bytes(b"")
    block = data_of(page_folder)["exposure"][0]
    assert (block["without"], "sft" in [r["label"] for r in block["rows"]]) == (["sft"], False)
    assert "Without recommendations of the catalogue's items: sft." in Markup(page_of(page_folder)).text


def test_curves(page_folder: Path) -> None:
    block = data_of(page_folder)["curves"][0]
    loss, valid = block["rows"][0]["panels"]
    assert [r["label"] for r in block["rows"][:2]] == ["sft", "dpo"]
    assert (loss["name"], valid["name"], loss["steps"]) == ("loss", "ndcg@10 on validation", "300")
    assert [line["path"].count(",") for line in loss["lines"]] == [POINTS] * 3
    assert valid["lines"][0]["text"] == "best 0.2500 at step 200"
    # The lowest of three equal curves .125, .25, .1875 lies at the bottom, the highest at the top.
    assert valid["lines"][0]["path"] == "M80.0,80.0L160.0,0.0L240.0,40.0"


@pytest.mark.parametrize("n", [1, 119, 120, 121, 5000])
def test_thinning_keeps_both_ends_and_order(n: int) -> None:
    step = np.arange(n, dtype=np.float64)
    kept = thin(Line(42, step, step**2))
    assert len(kept.step) == min(n, POINTS)
    assert (kept.step[0], kept.step[-1]) == (0, n - 1)
    assert (np.diff(kept.step) > 0).all()
    assert (kept.value == kept.step**2).all()


def test_users_are_picked_by_disagreement_and_at_random() -> None:
    # Standard deviations over the two rankers: 0, .5, .25, 0, .05.
    values = np.array([[1.0, 1.0, 0.5, 0.2, 0.1], [1.0, 0.0, 0.0, 0.2, 0.2]])
    ids = ["a", "b", "c", "d", "e"]
    chosen = pick(values, ids, most=4)
    assert chosen[:2] == [(1, True), (2, True)]
    assert [split for _, split in chosen] == [True, True, False, False]
    assert pick(values, ids, most=4) == chosen
    everybody = pick(values, ids, most=30)
    assert sorted(i for i, _ in everybody) == [0, 1, 2, 3, 4]
    assert {i for i, split in everybody if split} == {1, 2, 4}
    assert all(not split for _, split in pick(np.zeros((0, 5)), ids))


def test_cases_show_the_lists_of_the_first_seed(page_folder: Path, hostile: Any) -> None:
    (case,) = data_of(page_folder)["script"]["cases"]
    found = results.load(page_folder)
    assert (case["dataset"], case["seed"], len(case["users"])) == ("beauty", 42, 30)
    items = case["items"]
    for user in case["users"]:
        u = int(user["id"])
        assert [int(items[i][0]) for i in user["history"]] == [(u + i) % 16 for i in range(3)]
        assert items[user["target"]] == ["7", hostile.title, 3]
        for cell, places in user["lists"].items():
            assert found.records[cell].seed == 42
            expected = [(u + 42 + 3 * j) % 16 for j in range(5)]
            if u == 5:
                assert places[4] == -1
            assert [int(items[i][0]) for i in places if i >= 0] == expected[: 4 if u == 5 else 5]


def test_published_numbers_stand_beside_ours(page_folder: Path) -> None:
    fact = {
        "paper": "flower", "table": "table-4", "dataset": "beauty", "backbone": "tiger", "method": "sft",
        "metric": "ndcg@10", "value": 0.25, "significant": True, "half_unit": 0.00005,
    }  # fmt: skip
    line = {
        "row": "sft", "metric": "ndcg@10", "fact": fact, "seeds": 3, "mean": 0.3, "low": 0.2, "high": 0.4,
        "level": "users", "difference": 0.05, "relative": 0.2, "within": True,
        "reasons": [{"key": "k", "text": "<i>other</i> size."}],
    }  # fmt: skip
    other = {**line, "low": None, "high": None, "within": None, "relative": None, "reasons": []}
    published = {"sections": [{"title": "beauty · tiger", "lines": [line, other], "rest": ["dpo"]}]}
    (section,) = papers(published)
    assert [(x["ours"], x["theirs"], x["difference"], x["relative"], x["within"]) for x in section["lines"]] == [
        ("0.3000 [0.2000, 0.4000]", "0.2500*", "+0.0500", "+20.0 %", "yes"),
        ("0.3000", "0.2500*", "+0.0500", "—", "—"),
    ]
    text = Markup(page_of(page_folder, published=published)).text
    assert "<i>other</i> size." in text
    assert "Without a published counterpart: dpo." in text


def ordered() -> Order:
    """Ours: dpo, sft, ppo; the paper's: sft, dpo, ppo."""
    facts = {
        row: Fact("flower", "table-4", "beauty", "tiger", name, "ndcg@10", value, False, 0.00005)
        for row, name, value in (("dpo", "DPO", 0.25), ("sft", "sft", 0.5), ("ppo", "ppo", 0.125))
    }
    ranked = tuple(
        Ranked(row, facts[row], mean, place, published)
        for row, mean, place, published in (("dpo", 0.75, 1, 2), ("sft", 0.5, 2, 1), ("ppo", 0.25, 3, 3))
    )
    known, swaps = Agreement(1 / 3, -0.5, 0.9, 1.0, 3), (Swap("dpo", "sft", True),)
    return Order("beauty · tiger", "ndcg@10", ranked, (42, 43), known, "users and seeds", swaps, ("dpo-2",), "")


def test_our_order_stands_beside_the_papers(page_folder: Path) -> None:
    bare = Order("yelp · tiger", "", (), (), None, "", (), (), "No row and column of this block are published.")
    orders = json.loads(json.dumps(as_dicts([ordered(), bare])))
    page = page_of(page_folder, orders=orders)
    text = Markup(page).text
    assert sentence(ordered()) == "ndcg@10: tau .33 [-.50, .90] over 3 methods, p = 1.000; 2 seeds."
    assert sentence(ordered()) in text
    lines = "1. dpo 0.7500 1. sft 0.5000 2. sft 0.5000 2. dpo (DPO) 0.2500 3. ppo 0.2500 3. ppo 0.1250"
    assert f"ours value Flower value {lines}" in text
    assert "over our users and seeds" in text
    assert "closer to the same published one: dpo-2." in text
    assert bare.remark not in text
    assert 'href="#published"' in page
    assert "The papers' values beside ours" not in text


def test_nothing_published_is_no_section(page_folder: Path) -> None:
    nothing = {"sections": [{"title": "beauty · tiger", "lines": [], "rest": ["sft"]}]}
    bare = replace(ordered(), ranked=(), agreement=None, swaps=(), twice=(), remark="No row.")
    page = page_of(page_folder, published=nothing, orders=as_dicts([bare]))
    assert "Beside the published numbers" not in page
    assert "#published" not in page


def test_the_comparison_stands_beside_the_primary_metric(page_folder: Path) -> None:
    found = results.load(page_folder)
    page = html(found, report.build(found))
    head = page.split('<table class="board"')[1].split("</thead>")[0]
    order = re.findall(r">(recall@10 ↑|ndcg@10 ↑|Δ ndcg@10 [^<]*|p|verdict|dgu@10 ↓|users won[^<]*)</button>", head)
    assert [o.split(" ")[0] for o in order] == ["recall@10", "ndcg@10", "Δ", "p", "verdict", "dgu@10", "users"]
    other = html(found, report.build(found, ["recall@10", "dgu@10"]))
    head = other.split('<table class="board"')[1].split("</thead>")[0]
    order = re.findall(r">(recall@10 ↑|Δ ndcg@10 [^<]*|p|verdict|dgu@10 ↓|users won[^<]*)</button>", head)
    assert [o.split(" ")[0] for o in order] == ["recall@10", "dgu@10", "Δ", "p", "verdict", "users"]
    for text in (page, other):
        body = text.split('<table class="board"')[1].split("</table>")[0]
        heads, *rows = body.split("</tr>")[:-1]
        assert {len(re.findall("<t[hd] ", row)) for row in rows} == {len(re.findall("<th ", heads))}


def test_what_opens_is_said(page_folder: Path) -> None:
    assert "Every number of the leaderboards opens where it comes from" in Markup(page_of(page_folder)).text


@pytest.mark.slow
def test_a_page_of_144_cells_is_small(big_folder: Path) -> None:
    assert len(page_of(big_folder).encode()) < 3_000_000
