"""The HTML page in a real browser: sorting, filters, pop-up, keyboard, themes, a phone; nothing is requested."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rlrecbench import report, results
from rlrecbench.report.to_html import html

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
CHROMIUM = os.environ.get("RLRECBENCH_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: set RLRECBENCH_CHROMIUM or put chromium on the path"),
]
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
BOARD = "#b0 table.board"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield found
        found.close()


@pytest.fixture
def file(page_folder: Path) -> Path:
    found = results.load(page_folder)
    path = page_folder / "leaderboard.html"
    path.write_text(html(found, report.build(found)), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page on a wide screen; whatever it says on the console or asks of the network fails the test."""
    yield from opened(browser, file, width=1280, height=900)


def opened(browser: Any, file: Path, width: int, height: int, **named: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": width, "height": height}, **named)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: said.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    yield page
    context.close()
    assert said == []


def column(page: Any, head: str) -> list[str]:
    """Texts of a column of the first block, as they stand."""
    index = page.locator(f"{BOARD} thead th").all_inner_texts().index(head)
    rows = page.locator(f"{BOARD} tbody tr:not([hidden])").all()
    return [row.locator("th, td").nth(index).inner_text().split("\n")[0] for row in rows]


def numbers(texts: list[str]) -> list[float]:
    return [float(t.partition(" ±")[0].rstrip("*°")) for t in texts if t != "—"]


def sorter(page: Any, head: str) -> Any:
    return page.locator(f"{BOARD} thead button", has_text=head)


@pytest.mark.parametrize(("head", "best_first"), [("ndcg@10 ↑", "descending"), ("dgu@10 ↓", "ascending")])
def test_sorting(page: Any, page_folder: Path, head: str, best_first: str) -> None:
    table = report.build(results.load(page_folder))
    means = [v.mean for row in table.blocks[0].rows if (v := row.values[head.split()[0]])]
    suite_order = column(page, "method")
    cell = sorter(page, head).locator("xpath=..")
    for way in (best_first, "ascending" if best_first == "descending" else "descending"):
        sorter(page, head).click()
        assert cell.get_attribute("aria-sort") == way
        assert numbers(column(page, head)) == pytest.approx(sorted(means, reverse=way == "descending"), abs=5.1e-5)
    sorter(page, head).click()
    assert cell.get_attribute("aria-sort") is None
    assert column(page, "method") == suite_order


def test_sorting_by_name_and_with_missing_values(page: Any, hostile: Any) -> None:
    sorter(page, "method").click()
    names = [name.split(" ")[0] for name in column(page, "method")]
    assert names == sorted(names)
    index = page.locator("#b1 thead th").all_inner_texts().index("ndcg@10 ↑")
    for _ in range(2):
        page.locator("#b1 thead button", has_text="ndcg@10 ↑").click()
        last = page.locator("#b1 tbody tr").last
        assert hostile.label in last.inner_text()
        assert last.locator("th, td").nth(index).inner_text() == "—"


def test_filters(page: Any) -> None:
    page.fill("#filter", "DP")
    assert [n.split(" ")[0] for n in column(page, "method")] == ["dpo"]
    assert page.locator("#count").inner_text() == "3 of 12 rows"
    assert page.locator("#exposure figure:visible").all_inner_texts()[0].startswith("dpo")
    page.fill("#filter", "nobody")
    assert page.locator("#nothing").is_visible()
    page.fill("#filter", "")
    page.check("#starred")
    assert [n.split(" ")[0] for n in column(page, "method")] == ["sft", "dpo", "most-popular"]
    page.uncheck("#starred")
    page.select_option("#dataset", "yelp")
    assert page.locator("#leaderboards article:visible").count() == 1
    page.select_option("#label", "letter")
    assert page.locator("#leaderboards article:visible").count() == 0
    page.select_option("#dataset", "")
    assert page.locator("#leaderboards article:visible h3").all_inner_texts() == ["beauty · letter"]


def test_columns_can_be_left_out(page: Any) -> None:
    page.click("text=Metrics")
    page.uncheck(".menu input[value='2']")
    page.keyboard.press("Escape")
    assert not page.locator(".menu fieldset").is_visible()
    heads = page.locator(f"{BOARD} thead th:visible").all_inner_texts()
    assert "dgu@10 ↓" not in heads
    assert "ndcg@10 ↑" in heads
    assert page.locator(f"{BOARD} tbody tr").first.locator("td:visible").count() == len(heads) - 1
    page.uncheck("#spread")
    assert page.locator(f"{BOARD} .sd:visible").count() == 0


def test_the_pop_up_tells_where_a_number_comes_from(page: Any, page_folder: Path) -> None:
    page.click("[data-key=b0r1m1]")
    dialog = page.locator("#about")
    assert dialog.locator("h2").inner_text() == "dpo · ndcg@10 · beauty · tiger"
    for seed, row in zip((42, 43, 44), dialog.locator("tbody tr").all(), strict=True):
        stored = json.loads((page_folder / f"cells/beauty/tiger/dpo/seed-{seed}/metrics.json").read_text())
        value = stored["metrics"]["ndcg@10"]
        assert row.locator("th, td").all_inner_texts() == [str(seed), f"{value:.4f}", repr(value)]
    text = dialog.inner_text()
    table = report.build(results.load(page_folder))
    c = table.blocks[0].rows[1].comparison
    assert c is not None
    assert c.tally is not None
    for expected in (
        f"{c.test.mean:+.4f}",
        "two-way test, users and seeds crossed; 64 users, 3 seeds",
        "Holm, family of 3",
        f"{c.tally.users_won} / {c.tally.users_lost} / {c.tally.users_tied}",
        "better, starred at 0.05",
        "seed 42: cells/beauty/tiger/dpo/seed-42",
        "0123456789abcdef0123456789abcdef01234567",
        "2026-01-02T03:04:05+00:00",
        "cpu (x86_64)",
        "beta = 0.1",
        "epochs = 2; lr = 0.001",
        "train/abc, score/def",
        "train_s = 120.5",
        table.blocks[0].fingerprint,
    ):
        assert expected in text, expected
    page.mouse.click(5, 5)
    assert not dialog.is_visible()


def test_a_missing_cell_says_why(page: Any, hostile: Any) -> None:
    page.hover("[data-key=b0r2m0]")
    assert f"seed 43: — (failed: {hostile.reason})" in page.locator("#tip").inner_text()
    page.click("[data-key=b0r2m0]")
    assert "not done yet" in page.locator("#about tbody").inner_text()


def test_everything_by_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator(f"{BOARD} thead button").last.focus()
    page.keyboard.press("Enter")
    assert page.locator(f"{BOARD} [aria-sort]").count() == 1
    page.keyboard.press("Space")
    assert page.locator(f"{BOARD} [aria-sort=descending]").count() == 1
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    focused = "document.activeElement.dataset.key"
    assert page.evaluate(focused) == "b0r0m0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "b0r1m1"
    assert page.locator("#tip").is_visible()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#about").is_visible()
    assert page.evaluate("document.activeElement.id") == "close"
    page.keyboard.press("Escape")
    assert not page.locator("#about").is_visible()
    assert page.evaluate(focused) == "b0r1m1"
    page.keyboard.press("End")
    assert page.evaluate(focused) == "b0r1c1"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('article, section, details').className") == "gaps"


def test_trade_offs(page: Any, page_folder: Path) -> None:
    quality, against = page.locator("#plot select").nth(1), page.locator("#plot select").nth(2)
    assert quality.evaluate("s => s.selectedOptions[0].text") == "ndcg@10 ↑"
    assert against.evaluate("s => s.selectedOptions[0].text") == "dgu@10 ↓"
    table = report.build(results.load(page_folder))
    points = {
        row.label: (row.values["dgu@10"].mean, row.values["ndcg@10"].mean)
        for row in table.blocks[0].rows
        if row.values["dgu@10"] and row.values["ndcg@10"]
    }
    on = [
        name
        for name, (x, y) in points.items()
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    found = page.locator("#plot g.point.on").evaluate_all("all => all.map((g) => g.getAttribute('aria-label'))")
    assert sorted(text.split(": ")[0] for text in found) == sorted(on)
    assert page.locator("#plot g.point").count() == len(points)
    page.locator("#plot g.point").first.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert "ndcg@10" in page.locator("#tip").inner_text()
    against.select_option(label="training, seconds ↓")
    assert "training, seconds" in page.locator("#plot svg").inner_html()


def test_case_studies(page: Any, page_folder: Path, hostile: Any) -> None:
    user = page.locator("#study select").last
    user.select_option(index=3)
    name = user.evaluate("s => s.selectedOptions[0].text").split(" ")[0]
    head = page.locator("#study h3").first.inner_text()
    assert head == f"History of user {name}, oldest first"
    assert page.locator("#study .target").inner_text().endswith(hostile.title)
    place = [(int(name) + 42 + 3 * j) % 16 for j in range(5)]
    hits = page.locator("#study td.hit").count()
    assert hits == (4 if 7 in place else 0)
    first = page.locator("#study tbody tr").first.locator("td").first.inner_text()
    assert (hostile.title if place[0] == 7 else f"number {place[0]}") in first
    page.click("text=Next")
    assert page.locator("#study h3").first.inner_text() != head


def test_a_phone_does_not_scroll_sideways(browser: Any, file: Path) -> None:
    for page in opened(browser, file, width=390, height=844, has_touch=True, is_mobile=True):
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("visualViewport.width") == 390
        box = page.locator("#b0 .scroll")
        assert box.evaluate("b => b.scrollWidth > b.clientWidth")
        box.evaluate("b => b.scrollLeft = 200")
        assert page.locator("#b0 tbody th").first.bounding_box()["x"] == box.bounding_box()["x"]
        page.tap("[data-key=b0r1m1] >> visible=true")
        assert page.locator("#about").is_visible()
        assert page.evaluate("document.querySelector('dialog').scrollWidth <= 390")


TEXTS = (
    "h1", "h2", ".lead", ".kicker", ".facts dt", ".facts dd", ".prose", "nav a", ".caption", "td .v", ".sd", "th small",
    "th .gap", ".sort", ".absent", "summary", ".tools label", "#count", "#theme", ".ticks span", ".axis", ".ends",
    "figcaption", ".badge", ".seen", "td.hit", ".target", "table.lists small", ".matrix .won", ".matrix .lost small",
    ".matrix .won small", "footer p", "dialog dt", "dialog dd", ".exact", "dialog h2",
)  # fmt: skip
COLOURS = """
selector => [...document.querySelectorAll(selector)].map((node) => {
  const backs = [];
  for (let n = node; n; n = n.parentElement) backs.push(getComputedStyle(n).backgroundColor);
  return [getComputedStyle(node).color, backs];
})
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("by", ["system", "toggle"])
def test_contrast_in_both_themes(browser: Any, file: Path, theme: str, by: str) -> None:
    system = theme if by == "system" else {"light": "dark", "dark": "light"}[theme]
    for page in opened(browser, file, width=1280, height=900, color_scheme=system):
        while by == "toggle" and page.locator("#theme").inner_text() != f"Theme: {theme}":
            page.click("#theme")
        while page.locator("#study table:has(td.hit) .seen").count() == 0:
            page.click("text=Next")
        page.click("[data-key=b0r1m1]")
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (luminance(rgb(back)) > 0.5) == (theme == "light")
        for selector in TEXTS:
            found = page.evaluate(COLOURS, selector)
            assert found, selector
            for colour, backs in found:
                behind = next(rgb(b) for b in backs if rgb(b)[3] == 1)
                assert contrast(rgb(colour), behind) >= 4.5, selector


def rgb(text: str) -> tuple[float, ...]:
    """Red, green, blue of 255 and opacity of ``rgb(1, 2, 3)`` or ``rgba(1, 2, 3, 0)``."""
    parts = [float(p) for p in text[text.index("(") + 1 : -1].split(",")]
    return (*parts, 1.0)[:4]


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Contrast ratio as WCAG 2.2 defines it."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_oracle() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)


def test_headings_do_not_skip_a_level(page: Any) -> None:
    levels = [int(name[1]) for name in page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => h.tagName)")]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_readable_without_script(browser: Any, file: Path) -> None:
    for page in opened(browser, file, width=1280, height=900, java_script_enabled=False):
        assert page.locator("#b0 tbody tr").count() == 4
        assert not page.locator("#tools").is_visible()
        assert page.locator("#training path.line").count() > 0
        assert "drawn by the page's script" in page.locator("noscript").first.inner_text()
