"""Figures: what is drawn is read back from the axes."""

from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Annotation, Text

from rlrecbench import report, results
from rlrecbench.errors import StoreError
from rlrecbench.report.figures import draw_figures, exposure, pareto, ranks, style, sweeps
from rlrecbench.report.figures.pareto import Panel, Point, edge
from rlrecbench.report.table import Block as Shown
from rlrecbench.report.table import Column
from rlrecbench.results import Block
from rlrecbench.stats.blocks import CriticalDifference

NDCG = Column("ndcg@10", "higher", "user")
DGU = Column("dgu@10", "lower", "list")
Cell = Callable[..., Path]
Suite = Callable[..., None]


def looks(*labels: str) -> dict[str, style.Look]:
    return {label: style.Look("#0072B2", "o") for label in labels}


def bars(figure: Figure, axes: int = 0) -> dict[str, tuple[list[float], list[float], list[list[float]]]]:
    """By label: x and y of an axes' points with errors, and the ends of their vertical bars."""
    found = {}
    for container in figure.axes[axes].containers:
        if isinstance(container, ErrorbarContainer):
            line, _, ends = container.lines
            spans: list[Any] = [c.get_segments() for c in ends]
            found[str(container.get_label())] = (
                np.asarray(line.get_xdata(), float).tolist(),
                np.asarray(line.get_ydata(), float).tolist(),
                [[float(y) for _, y in s] for c in spans for s in c],
            )
    return found


# Exposure


HISTORY = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05, 0.0, 0.0])
SHARES = np.array([[0.75, 0.25, 0, 0, 0, 0, 0, 0], [0.25, 0.25, 0.5, 0, 0, 0, 0, 0]])


def test_exposure_shows_means_spreads_and_the_histories() -> None:
    """The dgu of seed one: 0.25 - -0.1; of seed two: 0.4 - -0.25; mean 0.5."""
    figure = exposure.draw("x", HISTORY, [exposure.Panel("sft", SHARES)], looks("sft"))
    (axes,) = figure.axes
    assert [p.get_height() for p in axes.patches] == [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]  # type: ignore[attr-defined]
    levels: Any = axes.collections[-1]
    assert [segment[0][1] for segment in levels.get_segments()] == HISTORY.tolist()
    errors: Any = axes.collections[0]
    low, high = errors.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.5 - np.std([0.75, 0.25], ddof=1), 0.5 + np.std([0.75, 0.25], ddof=1)))
    assert axes.get_title(loc="left") == "sft\nDGU 0.5000"
    assert figure.legends[0].get_title().get_text() == style.SPREAD


def test_exposure_of_one_seed_has_no_error_bars() -> None:
    figure = exposure.draw("x", HISTORY, [exposure.Panel("sft", SHARES[:1])], looks("sft"))
    assert len(figure.axes[0].collections) == 1
    assert figure.legends[0].get_title().get_text() == ""


@pytest.mark.parametrize(("rows", "shape"), [(1, (1, 1)), (4, (1, 4)), (6, (2, 3)), (12, (3, 4))])
def test_exposure_has_a_panel_per_row(rows: int, shape: tuple[int, int]) -> None:
    panels = [exposure.Panel(f"m{i}", SHARES) for i in range(rows)]
    figure = exposure.draw("x", HISTORY, panels, looks(*(p.label for p in panels)))
    assert len(figure.axes) == shape[0] * shape[1]
    assert figure.get_size_inches()[0] in (style.COLUMN, style.TEXT)


def write_data(root: Path) -> None:
    """A catalogue of 16 items, two a group; group g's first item was seen 8 - g times."""
    folder = root / "data" / "beauty"
    folder.mkdir(parents=True)
    items = {
        "item_id": [str(i) for i in range(16)],
        "title": [f"title {i}" for i in range(16)],
        "group": [i // 2 for i in range(16)],
        "frequency": [8 - i // 2 if i % 2 == 0 else 0 for i in range(16)],
    }
    pd.DataFrame(items).to_parquet(folder / "items.parquet", index=False)


def write_ranked(folder: Path, *top: int) -> None:
    """The same list for all 64 users."""
    table = pd.DataFrame([(str(u), i + 1, str(item), -i) for u in range(64) for i, item in enumerate(top)])
    table.set_axis(["user_id", "rank", "item_id", "score"], axis=1).to_parquet(folder / "ranked.parquet", index=False)


def test_exposure_counts_groups_of_what_is_recommended(
    tmp_path: Path, suite: Suite, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three items two are in group 0 and one is in group 7; histories give group g (8 - g) / 36."""
    suite(tmp_path)
    write_ranked(cell(tmp_path, "beauty", "tiger", "sft", 42), 0, 1, 15)
    write_data(tmp_path)
    drawn: list[Any] = []
    draw = exposure.draw
    monkeypatch.setattr(exposure, "draw", lambda *args: drawn.append(args) or draw(*args))  # type: ignore[func-returns-value]
    found = results.load(tmp_path)
    written = exposure.draw_exposure(found, report.build(found), tmp_path / "f")
    assert [p.name for p in written] == ["exposure-beauty-tiger.pdf", "exposure-beauty-tiger.png"]
    ((title, history, (panel,), _),) = drawn
    assert title == "beauty · tiger: top 10 by popularity group (0: most popular)"
    assert history == pytest.approx(np.arange(8, 0, -1) / 36)
    assert panel.label == "sft"
    assert panel.shares == pytest.approx(np.array([[2 / 3, 0, 0, 0, 0, 0, 0, 1 / 3]]))


# Pareto fronts


POINTS = [
    Point("a", 1, 1, 0, 0),
    Point("b", 2, 3, 0.5, 0.25),
    Point("c", 3, 2, 0, 0),
    Point("d", 4, 4, 0, 0),
    Point("e", 1, 0.5, 0, 0),
]


def test_a_front_is_what_no_other_point_beats() -> None:
    """Where less is better a comes first, then b and d rise above it; where more is better d beats all."""
    assert [p.label for p in edge(POINTS, DGU, NDCG)] == ["a", "b", "d"]
    assert [p.label for p in edge(POINTS, NDCG, NDCG)] == ["d"]
    assert [p.label for p in edge(POINTS, DGU, DGU)] == ["e"]
    assert [p.label for p in edge(POINTS[1:3], NDCG, NDCG)] == ["c", "b"]


def test_of_two_equal_points_both_are_on_the_front() -> None:
    twin = POINTS[0]._replace(label="twin")
    assert [p.label for p in edge([POINTS[0], twin], DGU, NDCG)] == ["a", "twin"]


def test_pareto_draws_points_spreads_and_the_front() -> None:
    figure = pareto.draw("x", NDCG, [Panel(DGU, POINTS, {})], looks("a", "b", "c", "d", "e"))
    axes = figure.axes[0]
    found = bars(figure)
    assert {label: (x, y) for label, (x, y, _) in found.items()} == {p.label: ([p.x], [p.y]) for p in POINTS}
    assert found["b"][2] == [[3, 3], [2.75, 3.25]]
    (line,) = [line for line in axes.lines if line.get_label() == "front"]
    assert np.asarray(line.get_xydata()).tolist() == [[1, 1], [2, 3], [4, 4]]
    assert line.get_drawstyle() == "steps-post"
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("dgu@10 ↓", "ndcg@10 ↑", "linear")
    rims = {str(c.get_label()) for c in axes.containers if c.lines[0].get_markeredgecolor() == "black"}  # type: ignore[attr-defined]
    assert rims == {"a", "b", "d"}


def test_times_that_span_a_decade_stand_on_a_logarithmic_axis() -> None:
    found = [Point("a", 10, 1, 0, 0), Point("b", 200, 2, 0, 0)]
    figure = pareto.draw("x", NDCG, [Panel(pareto.TRAINING, found, {})], looks("a", "b"))
    assert figure.axes[0].get_xscale() == "log"


def crowd(n: int) -> list[Point]:
    rng = np.random.default_rng(1)
    return [Point(f"gflowgr-tb-{i}", rng.uniform(), rng.uniform(), 0, 0) for i in range(n)]


@pytest.mark.parametrize("n", [2, 6, 12])
def test_names_hide_neither_each_other_nor_points_nor_leave_the_axes(n: int) -> None:
    found = crowd(n)
    figure = pareto.draw("x", NDCG, [Panel(DGU, found, {}), Panel(NDCG, found, {})], looks(*(p.label for p in found)))
    figure.draw_without_rendering()
    for axes in figure.axes:
        names = [t for t in axes.texts if isinstance(t, Annotation)]
        assert [t.get_text() for t in names] == [p.label for p in found]
        boxes = [Text.get_window_extent(t) for t in names]  # without the lines that lead to them
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        dots = axes.transData.transform([(p.x, p.y) for p in found])
        assert not any(box.contains(*dot) for box in boxes for dot in dots)
        inside = axes.get_window_extent()
        assert all(inside.contains(*corner) for box in boxes for corner in box.corners())


def test_many_rows_have_a_legend_and_names_on_the_front() -> None:
    found = crowd(20)
    figure = pareto.draw("x", NDCG, [Panel(DGU, found, {})], looks(*(p.label for p in found)))
    named = {t.get_text() for t in figure.axes[0].texts}
    assert named == {p.label for p in edge(found, DGU, NDCG)}
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["front", *(p.label for p in found)]


def test_points_are_means_over_seeds(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    """Training takes 100 and 200 s after a start of 50 s; what is undefined with one seed is not drawn."""
    suite(tmp_path)
    for seed, train in ((42, 100), (43, 200)):
        metrics = {"ndcg@10": seed / 100, "dgu@10": 0.5 if seed == 42 else None}
        cell(tmp_path, "beauty", "tiger", "sft", seed, metrics=metrics, cost={"train_s": train, "start_train_s": 50})
    cell(tmp_path, "beauty", "tiger", "dpo", 42, cost={})
    cell(tmp_path, "beauty", "none", "most-popular", 42, cost={})
    found = results.load(tmp_path)
    (block,), (about,) = found.blocks(), report.build(found).blocks
    panel = pareto.panel(block, about.rows, pareto.TRAINING, NDCG)
    (point,) = panel.points
    assert point.label == "sft"
    assert list(point[1:]) == pytest.approx([200, 0.425, 50 * np.sqrt(2), 0.005 * np.sqrt(2)])
    assert panel.left_out == {"no training": ["dpo", "most-popular"]}
    panel = pareto.panel(block, about.rows, DGU, NDCG)
    assert [p.label for p in panel.points] == ["dpo", "most-popular"]
    assert panel.left_out == {"no dgu@10": ["sft"]}


def test_rows_without_training_are_named_below_the_panel() -> None:
    found = [Point("a", 10, 1, 0, 0), Point("b", 20, 2, 0, 0)]
    left_out = {"no training": ["most-popular", "item-graph"], "no ndcg@10": [f"row-{i}" for i in range(12)]}
    panels = [Panel(DGU, found, {}), Panel(pareto.TRAINING, found, left_out)]
    figure = pareto.draw("x", NDCG, panels, looks("a", "b"))
    first, *note = figure.axes[1].get_xlabel().split("\n")
    assert first == "training with its start, s ↓"
    assert " ".join(note) == "no training: most-popular, item-graph no ndcg@10: " + ", ".join(left_out["no ndcg@10"])
    figure.draw_without_rendering()
    box = figure.axes[1].xaxis.label.get_window_extent()
    width = figure.get_window_extent().width
    assert width / 2 < box.x0 < box.x1 <= width
    assert figure.axes[0].get_xlabel() == "dgu@10 ↓"


def test_without_the_primary_metric_the_first_column_stands_for_it(
    tmp_path: Path, suite: Suite, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite(tmp_path)
    for method in ("sft", "dpo"):
        cell(tmp_path, "beauty", "tiger", method, 42)
    found = results.load(tmp_path)
    drawn: list[Any] = []
    draw = pareto.draw
    monkeypatch.setattr(pareto, "draw", lambda *args: drawn.append(args) or draw(*args))  # type: ignore[func-returns-value]
    pareto.draw_pareto(found, report.build(found, ["recall@10", "dgu@10"]), tmp_path / "f")
    ((_, y, panels, _),) = drawn
    assert (y.metric, [p.x.metric for p in panels]) == ("recall@10", ["dgu@10", pareto.TRAINING.metric])


# Sweeps


def varied(root: Path, suite: Suite, cell: Cell) -> tuple[Block, Shown]:
    """Write sft, and dpo with three values of lam, two of k, another start, and another batch size."""
    settings: dict[str, dict[str, Any]] = {
        "sft": {},
        "dpo": {"lam": 1.0, "k": 1},
        "low": {"lam": 0.01, "k": 1},
        "zero": {"lam": 0, "k": 1},
        "more": {"lam": 1.0, "k": 3},
        "flower": {"lam": 5.0, "k": 1},
        "batch": {"lam": 7.0, "k": 1, "batch": 2},
    }
    suite(root, methods=[{"name": "sft" if n == "sft" else "dpo", "label": n} for n in settings])
    for label, mine in settings.items():
        for seed in (42, 43):
            lam = mine.get("lam", 3.0)
            provenance = {
                "fingerprint": "f",
                "method": "sft" if label == "sft" else "dpo",
                "settings": mine | {"flag": True},
                "budget": {"epochs": 3},
                "backbone": {"ids": {"seed": seed + len(label), "levels": 3}},
            }
            metrics = {"ndcg@10": lam / 10 + (seed - 42) / 64, "dgu@10": None if label == "low" else lam}
            path = cell(root, "beauty", "tiger", "ppo", seed, metrics=metrics, provenance=provenance)
            path.rename(root / "moved")
            there = root / "cells" / "beauty" / "tiger" / label / f"seed-{seed}"
            there.parent.mkdir(exist_ok=True)
            (root / "moved").rename(there)
    found = results.load(root)
    (block,), (about,) = found.blocks(), report.build(found, ["ndcg@10", "dgu@10"]).blocks
    return block, about


BEGIN = {"flower": "flower"}


def test_rows_that_differ_in_one_number_make_a_line(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    """Three values of lam; two of k are a comparison; what begins elsewhere or differs twice is left out."""
    (line,) = sweeps.lines(varied(tmp_path, suite, cell)[0], BEGIN)
    assert line == sweeps.Line("lam", "dpo", "dpo", (0.0, 0.01, 1.0), ("zero", "low", "dpo"))


@pytest.mark.parametrize(
    ("elsewhere", "name"),
    [({}, "dropout"), ({"budget": {"dropout": 0.5}}, "settings.dropout"), ({"budget": None}, "dropout")],
)
def test_equal_names_of_two_parts_are_two_settings(
    tmp_path: Path, suite: Suite, cell: Cell, elsewhere: dict[str, Any], name: str
) -> None:
    """Three values of the method's dropout, whatever the budget's is."""
    labels = ("dpo", "ppo", "sft")
    suite(tmp_path, methods=[{"name": "sprec", "label": label} for label in labels])
    for i, label in enumerate(labels):
        settings = {"settings": {"dropout": i / 10}, "method": "sprec", "fingerprint": "f"}
        cell(tmp_path, "beauty", "tiger", label, 42, provenance=settings | elsewhere)
    (block,) = results.load(tmp_path).blocks()
    (line,) = sweeps.lines(block, {})
    assert (line.setting, line.values, line.rows) == (name, (0.0, 0.1, 0.2), labels)


def test_a_sweep_draws_means_spreads_and_the_baseline(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    block, about = varied(tmp_path, suite, cell)
    found = sweeps.lines(block, BEGIN)
    figure = sweeps.draw(about, "lam", found, [NDCG, DGU], looks("dpo"))
    x, y, ends = bars(figure)["dpo"]
    middle, spread = 1 / 128, np.std([0, 1 / 64], ddof=1)
    assert x == [0, 0.01, 1]
    assert y == pytest.approx([middle, 0.001 + middle, 0.1 + middle])
    assert ends[2] == pytest.approx([0.1 + middle - spread, 0.1 + middle + spread])
    assert bars(figure, 1)["dpo"][:2] == ([0, 1], [0, 1])
    (dashed,) = [line for line in figure.axes[0].lines if line.get_label() == "sft"]
    assert np.asarray(dashed.get_ydata()).tolist() == pytest.approx([0.3 + middle] * 2)
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_title(loc="left"), axes.get_xlabel()) == ("symlog", "ndcg@10 ↑", "lam")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "0.01", "1"]
    assert figure.get_suptitle() == "beauty · tiger: lam"


@pytest.mark.parametrize(
    ("values", "scale"), [((0.01, 1, 100), "log"), ((0, 1, 3, 5), "linear"), ((-1, 1, 100), "linear")]
)
def test_the_scale_of_a_sweep(values: tuple[float, ...], scale: str) -> None:
    axes = style.sheet(3, 3).subplots()
    sweeps._scale(axes, values)
    assert axes.get_xscale() == scale
    assert axes.get_xticks().tolist() == list(values)


# Ranks


CD = CriticalDifference(
    ranks=(2.5, 1.25, 2.25, 4.0),
    statistic=9.0,
    p=0.0291,
    nemenyi=1.66,
    pairs=dict.fromkeys(combinations(range(4), 2), 0.5),
    cliques=((1, 2), (2, 0)),
    blocks=8,
    alpha=0.05,
    least_p=0.047,
)


def test_ranks_stand_at_their_places_and_bars_join_what_is_alike() -> None:
    labels = ["sft", "dpo", "ppo", "ipa"]
    figure = ranks.draw(CD, labels, "ndcg@10", looks(*labels))
    (axes,) = figure.axes
    points = sorted(float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_zorder() == 3)
    assert points == [1.25, 2.25, 2.5, 4.0]
    joined = [np.asarray(line.get_xdata()).tolist() for line in axes.lines if line.get_linewidth() == 2.2]
    assert joined == [[1.25, 2.25], [2.25, 2.5]]
    texts = {t.get_text() for t in axes.texts}
    assert texts == {"1", "2", "3", "4", "dpo  1.25", "ppo  2.25", "2.50  sft", "4.00  ipa"}
    left = axes.texts[[t.get_text() for t in axes.texts].index("dpo  1.25")]
    assert left.get_horizontalalignment() == "right"
    assert axes.get_title() == "average ranks on ndcg@10 over 8 blocks"
    assert "over 6 pairs, does not tell apart at 0.05." in figure.get_supxlabel()
    assert "Friedman: p = 0.029." in figure.get_supxlabel()
    assert "So few blocks" not in figure.get_supxlabel()


def test_too_few_blocks_for_so_many_pairs_are_told() -> None:
    from dataclasses import replace

    figure = ranks.draw(replace(CD, least_p=0.215), ["a", "b", "c", "d"], "ndcg@10", looks("a", "b", "c", "d"))
    assert "So few blocks can tell no pair of so many apart: the least p possible is 0.215." in figure.get_supxlabel()


def test_bars_that_would_touch_stand_below_each_other() -> None:
    assert ranks._stacked([[1, 2], [1.5, 3], [2.5, 4], [3.5, 5]]) == [1, 2, 1, 2]
    assert ranks._stacked([[1, 2], [2, 3]]) == [1, 2]
    assert ranks._stacked([]) == []


# Together


def test_a_row_keeps_its_look_and_no_two_are_alike(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    names = [f"m{i}" for i in range(40)]
    suite(tmp_path, methods=[{"name": n, "label": n} for n in ["sft", *names]])
    cell(tmp_path, "beauty", "tiger", "sft", 42)
    found = results.load(tmp_path)
    given = style.looks(found, report.build(found))
    assert len({(look.colour, look.marker) for look in given.values()}) == 41
    assert all(a.colour != b.colour and a.marker != b.marker for a, b in pairwise(given.values()))


def test_figures_that_apply_are_drawn_in_both_forms_and_byte_for_byte(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    suite(tmp_path / "r")
    for method in ("sft", "dpo"):
        cell(tmp_path / "r", "beauty", "letter", method, 42)
    found = results.load(tmp_path / "r")
    table = report.build(found)
    first, second = (draw_figures(found, table, tmp_path / name) for name in "ab")
    assert [p.name for p in first] == ["pareto-beauty-letter.pdf", "pareto-beauty-letter.png"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert sorted((tmp_path / "a").iterdir()) == sorted(first)
    pdf = first[0].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert imread(first[1]).shape[1] == round(150 * 5.2)


def test_nothing_to_show_writes_nothing(tmp_path: Path, suite: Suite, cell: Cell) -> None:
    suite(tmp_path)
    cell(tmp_path, "beauty", "tiger", "sft", 42)
    found = results.load(tmp_path)
    assert draw_figures(found, report.build(found), tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


def test_print_is_large_enough_and_settings_are_put_back(folder: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    found = crowd(3)
    with style.styled():
        figure = pareto.draw(
            "x", NDCG, [Panel(DGU, found, {"no training": ["most-popular"]})] * 3, looks(*(p.label for p in found))
        )
        sizes = {t.get_fontsize() for t in figure.findobj(match=lambda a: hasattr(a, "get_fontsize")) if t.get_text()}  # type: ignore[attr-defined]
    assert min(sizes) >= 6.5
    assert figure.get_size_inches()[0] == style.TEXT
    assert dict(matplotlib.rcParams) == before


def test_a_folder_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    found = results.load(folder)
    with pytest.raises(StoreError, match=r"file.*cannot be written"):
        draw_figures(found, report.build(found), tmp_path / "file")
