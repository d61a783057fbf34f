"""The picture of fitted distributions: what it says is what the arrays hold, and it is a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from rlrecbench import results
from rlrecbench.errors import StoreError
from rlrecbench.metrics.fitting import js
from rlrecbench.report.figures.fitting import Panel, draw, draw_fits
from rlrecbench.report.words import number

WEIGHT = np.array([2.0, 8.0, 4.0, 2.0])


def panel(label: str, *exact: list[float]) -> Panel:
    """A method that drew what it gives, eighty times per seed."""
    shares = np.array(exact)
    return Panel(label, np.round(80 * shares), shares)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep the figures that are saved, each once."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        if self not in saved:
            saved.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_panels_titles_and_divergences() -> None:
    """One panel per method; its divergences are means over the seeds. The order is by weight, ties as they came."""
    sft = panel("sft", [0.25, 0.25, 0.25, 0.25], [0.125, 0.5, 0.25, 0.125])
    figure = draw("movies on qwen", WEIGHT, [sft, panel("flower", [0.125, 0.5, 0.25, 0.125])], floor=0.02)
    assert [a.get_title(loc="left") for a in figure.axes] == [
        f"sft\nJS {number(js(WEIGHT, np.ones(4)) / 2)} exact, {number(js(WEIGHT, np.ones(4)) / 2)} sampled",
        "flower\nJS 0.0000 exact, 0.0000 sampled",
    ]
    lines = [np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].lines]
    assert lines == [[0.25] * 4, [0.5, 0.25, 0.125, 0.125]]
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "JS in nats, mean over seeds; one sample of the distribution: 0.0200"


def test_titles_that_were_never_drawn_have_no_dot() -> None:
    (axes,) = draw("x", WEIGHT, [panel("ppo", [0, 1, 0, 0])]).axes
    dots: Any = axes.collections[1].get_offsets()
    assert np.asarray(dots).tolist() == [[1.0, 1.0]]  # the most frequent title, all of the share
    assert axes.get_ylim()[0] < 0.125 < axes.get_ylim()[1]
    assert axes.get_ylim()[1] > 1


@pytest.mark.parametrize(("methods", "shape"), [(1, (1, 1)), (3, (2, 2)), (4, (2, 2)), (5, (2, 3))])
def test_as_many_panels_as_methods(methods: int, shape: tuple[int, int]) -> None:
    figure = draw("x", WEIGHT, [panel(f"m{i}", [0.25] * 4) for i in range(methods)])
    seen = [a for a in figure.axes if a.axison]
    assert len(seen) == methods
    assert len(figure.axes) == shape[0] * shape[1]


def test_many_titles_are_dots_and_not_a_line() -> None:
    weight = np.arange(1.0, 301.0)
    figure = draw("x", weight, [Panel("sft", np.ones((1, 300)), np.full((1, 300), 1 / 300))])
    assert figure.axes[0].lines[0].get_linestyle() == "None"


def write_titles(folder: Path, sampled: list[int]) -> None:
    """Write a record's titles: weights 8, 4, 2, 2 and a floor of 4, 2, 1, 1; the policy gives all the same."""
    columns = {"item_id": list("abcd"), "title": list("ABCD"), "weight": [8, 4, 2, 2], "sampled": sampled}
    table = pd.DataFrame(columns | {"floor": [4, 2, 1, 1], "exact": [0.25] * 4})
    table.to_parquet(folder / "titles.parquet", index=False)


def test_a_picture_per_block_in_which_a_distribution_was_fitted(
    tmp_path: Path, figures: list[Figure], suite: Callable[..., None], cell: Callable[..., Path]
) -> None:
    """Two seeds of sft and one of ppo are drawn; dpo is done, but recommends, and so does all of yelp."""
    suite(tmp_path)
    write_titles(cell(tmp_path, "beauty", "tiger", "sft", 42), [8, 4, 2, 2])
    write_titles(cell(tmp_path, "beauty", "tiger", "sft", 43), [1, 1, 1, 1])
    write_titles(cell(tmp_path, "beauty", "tiger", "ppo", 42), [16, 0, 0, 0])
    cell(tmp_path, "beauty", "tiger", "dpo", 42)
    cell(tmp_path, "yelp", "tiger", "sft", 42)
    written = draw_fits(results.load(tmp_path), tmp_path / "figures")
    names = [p.relative_to(tmp_path).as_posix() for p in written]
    assert names == ["figures/fit-beauty-tiger.pdf", "figures/fit-beauty-tiger.png"]
    assert all(p.is_file() for p in written)
    weight = np.array([8.0, 4, 2, 2])
    uniform = number(js(weight, np.ones(4)))
    (figure,) = figures
    assert [a.get_title(loc="left") for a in figure.axes] == [
        f"sft\nJS {uniform} exact, {number(js(weight, np.ones(4)) / 2)} sampled",
        f"ppo\nJS {uniform} exact, {number(js(weight, np.array([16.0, 0, 0, 0])))} sampled",
    ]
    assert figure.get_suptitle() == "beauty · tiger: 4 titles"
    assert figure.legends[0].get_title().get_text().endswith("one sample of the distribution: 0.0000")


def test_a_broken_table_of_titles_is_named(
    tmp_path: Path, suite: Callable[..., None], cell: Callable[..., Path]
) -> None:
    suite(tmp_path)
    (cell(tmp_path, "beauty", "tiger", "sft", 42) / "titles.parquet").write_text("x")
    with pytest.raises(StoreError, match=r"titles\.parquet cannot be read: .*; remove the cell's folder and run"):
        draw_fits(results.load(tmp_path), tmp_path)
