"""Tables in LaTeX: what is marked, what the caption says, and that pdflatex sets it.

Golden files are rewritten with UPDATE_GOLDEN=1.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest

import rlrecbench
from rlrecbench import report, results, stats
from rlrecbench.errors import ConfigError
from rlrecbench.report.grid import PAGE, fitted
from rlrecbench.report.layouts import side_by_side
from rlrecbench.report.starts import Start, starts
from rlrecbench.report.table import Block, Column, Comparison, Contrast, Row, Table, Value, marks
from rlrecbench.report.tex import comment, escape
from rlrecbench.report.to_latex import LAYOUTS, document, latex

GOLDEN = Path(__file__).parents[1] / "golden"
NDCG = Column("ndcg@10", "higher", "user")
RECALL = Column("recall@10", "higher", "user")
DGU = Column("dgu@10", "lower", "list")
ENTROPY = Column("entropy@10", "higher", "list")
COLUMNS = (RECALL, NDCG, DGU, ENTROPY)
WEIRD = 'a_b 50% & #1 ~x^2 \\end{tabular} $c$ ±Δ·↑° "q" <a|b> `--x` é中'
Seeds = Sequence[float]
Values = dict[str, dict[Column, Seeds]]


def outcome(p: float, seeds: int) -> stats.Test:
    """A test of which only p and the number of seeds matter here."""
    return stats.Test("two-way", 0.1, 0.01, 10.0, 5.0, p, 0.05, 0.15, 100, seeds, "methods", None)


def block(
    dataset: str,
    label: str,
    rows: Mapping[str, Mapping[Column, Seeds]],
    *,
    columns: Sequence[Column] = COLUMNS,
    stars: Sequence[str] = (),
    notable: Sequence[tuple[str, Column]] = (),
    missing: Mapping[str, tuple[int, ...]] | None = None,
    failed: int = 0,
    audit: Mapping[str, dict[str, int]] | None = None,
    baseline: str = "sft",
) -> Block:
    """A block out of values by row, metric and seed; a row without values is not done."""
    made: dict[str, dict[str, Value | None]] = {label: {} for label in rows}
    for column in columns:
        means = [float(np.mean(v[column])) if column in v else None for v in rows.values()]
        for name, mean, mark in zip(rows, means, marks(means, column.better), strict=True):
            if mean is None:
                made[name][column.metric] = None
                continue
            seeds = tuple(rows[name][column])
            contrast = Contrast(outcome(0.01, 3), 0.01, (name, column) in notable, 0.01, None)
            other = column.metric != "ndcg@10" and name != baseline
            std = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
            made[name][column.metric] = Value(mean, std, mark, seeds, contrast if other else None)
    found = []
    for name, values in rows.items():
        n = max((len(v) for v in values.values()), default=0)
        comparison = None
        if n and name != baseline and baseline in rows:
            comparison = Comparison(outcome(0.01, n), 0.02, 0.01, name in stars, "better", 0.5, None, None, None)
        found.append(Row(name, (42, 43, 44)[:n], False, made[name], comparison, (audit or {}).get(name, {}), {}))
    gaps = dict(missing or {})
    return Block(dataset, label, tuple(found), 1234, f"{dataset:f<64}", gaps, failed, baseline, "", 3)


def leaderboard(*blocks: Block, columns: Sequence[Column] = COLUMNS, suite: str = "tiny_suite") -> Table:
    config = stats.StatsConfig(primary="ndcg@10", baseline="sft")
    return Table(suite, tuple(columns), config, (42, 43, 44), blocks, (), None)


def level(mean: float, step: float = 0.01) -> Seeds:
    """Three seeds around a mean."""
    return (mean - step, mean, mean + step)


@pytest.fixture
def table() -> Table:
    """Two data sets on two backbones: stars, a dagger, a failed and a missing cell, a row and a block not done."""
    beauty: Values = {
        "sft": {RECALL: level(0.25), NDCG: level(0.125), DGU: level(0.5), ENTROPY: level(9.5)},
        "dpo": {RECALL: level(0.25), NDCG: level(0.0625), DGU: level(0.25), ENTROPY: level(10.5)},
        "gflowgr-tb": {RECALL: level(0.5), NDCG: level(0.25), DGU: level(0.125), ENTROPY: level(11.25)},
        "gflowgr-tb-light": {RECALL: (0.375,), NDCG: (0.1875,), DGU: (0.1875,), ENTROPY: (nan,)},
        "flower": {},
    }
    yelp = {name: values for name, values in beauty.items() if name != "flower"}
    gaps = {"gflowgr-tb-light": (43, 44), "flower": (42, 43, 44)}
    return replace(
        leaderboard(
            block(
                "beauty",
                "tiger",
                beauty,
                stars=["gflowgr-tb"],
                notable=[("gflowgr-tb", DGU), ("dpo", DGU)],
                missing=gaps,
                failed=2,
                audit={"dpo": {"duplicate_entries": 7, "duplicate_users": 3}},
            ),
            block("beauty", "letter", yelp, missing={"gflowgr-tb-light": (43, 44)}),
            block("yelp", "tiger", yelp, stars=["dpo", "gflowgr-tb"], missing={"gflowgr-tb-light": (43, 44)}),
        ),
        empty=(("yelp", "letter"),),
    )


STARTS = {
    "sft": Start("sft", ""),
    "dpo": Start("gflowgr", "sft"),
    "gflowgr-tb": Start("gflowgr", "flower"),
    "gflowgr-tb-light": Start("light", "sft"),
    "flower": Start("flower", "base"),
}


def lines(tex: str) -> dict[str, list[str]]:
    """The cells of a table's first grid, by the row's label, which stands before the first number."""
    found: dict[str, list[str]] = {}
    for line in tex.splitlines():
        cells = [c.strip() for c in re.sub(r" \\\\(\[.*\])?$", "", line).split(" & ")]
        at = next((i for i, c in enumerate(cells) if re.search(r"0\.\d|---|n/a", c) and i), None)
        if at is not None and " & " in line:
            found.setdefault(re.sub(r"\\textsuperscript\{.*", "", cells[at - 1]), cells[at:])
    return found


def caption(tex: str) -> str:
    return next(line for line in tex.splitlines() if line.startswith(r"\caption{"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("std", [False, True])
def test_golden(table: Table, layout: str, std: bool) -> None:
    text = latex(table, layout, std=std, starts=STARTS).replace(rlrecbench.__version__, "VERSION", 1)
    path = GOLDEN / f"leaderboard-{layout}{'-std' if std else ''}.tex"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_bold_is_best_and_underlined_second_by_the_direction(table: Table) -> None:
    """Of dgu the least is bold; sft and dpo have equal recall, the least of all, so neither is marked."""
    found = lines(latex(table, "datasets", std=False))
    recall, ndcg, dgu, entropy = found["gflowgr-tb"][:4]
    assert (recall, ndcg, dgu) == (r"\textbf{0.5000}", r"\textbf{0.2500}*", r"\textbf{0.1250}$^{\circ}$")
    assert entropy == r"\textbf{11.2500}"
    assert found["gflowgr-tb-light"][2] == r"\underline{0.1875}\phantom{$^{\circ}$}"
    assert found["sft"][0] == found["dpo"][0] == "0.2500"
    assert found["dpo"][3] == r"\underline{10.5000}"


def test_ties_share_a_mark() -> None:
    rows = {name: {NDCG: level(v)} for name, v in (("sft", 0.25), ("dpo", 0.5), ("ppo", 0.5), ("ipa", 0.25))}
    found = lines(latex(leaderboard(block("x", "tiger", rows, columns=[NDCG]), columns=[NDCG]), "datasets", std=False))
    assert found["dpo"][0] == found["ppo"][0] == r"\textbf{0.5000}"
    assert found["sft"][0] == found["ipa"][0] == r"\underline{0.2500}"


def test_what_is_not_done_is_a_dash_and_the_caption_counts_it(table: Table) -> None:
    tex = latex(table, "datasets", std=False)
    assert lines(tex)["flower"] == ["---"] * 8
    assert (lines(tex)["gflowgr-tb-light"][3], tex.count("0.0000")) == ("n/a", 0)
    text = caption(tex)
    assert (
        r"beauty $\cdot$ tiger: 5 of 15 cells missing, 2 of them failed "
        "(seeds of gflowgr-tb-light: 43, 44; flower: 42, 43, 44)." in text
    )
    assert r"No results yet: yelp $\cdot$ letter." in text
    assert text.endswith("---: not done, or not measured. n/a: undefined.}")


def test_the_caption_states_test_correction_family_users_seeds_and_level(table: Table) -> None:
    text = caption(latex(table, "datasets", std=True))
    assert text.startswith(
        r"\caption{Suite tiny\_suite. Mean $\pm$ standard deviation over 3 seeds (42, 43, 44), 1,234 test users; "
        "bold: best, underlined: second. * differs from sft on ndcg@10, p \\textless{} 0.05: two-way test, users and "
        "seeds crossed; Holm-corrected over the family of 3 comparisons with sft."
    )
    assert r"beauty $\cdot$ tiger: $^{\circ}$ other metrics, descriptive: differs from sft, p \textless{} 0.05" in text
    assert "Benjamini-Hochberg over 3 comparisons" in text
    assert r"\dag{} dpo, places that score nothing: 7 duplicate in 3 lists" in text
    assert "Checkpoint-level, no star: gflowgr-tb-light" in text
    assert "Protocol" not in text
    assert r"$\Delta$" not in text


def test_means_alone_are_called_so(table: Table) -> None:
    tex = latex(table, "datasets", std=False)
    assert "Mean over 3 seeds (42, 43, 44)" in caption(tex)
    assert r"\pm" not in tex


def test_standard_deviations_stand_beside_means_that_have_one() -> None:
    rows: Values = {"sft": {NDCG: level(0.25)}, "dpo": {NDCG: (0.5,)}}
    found = lines(latex(leaderboard(block("x", "tiger", rows, columns=[NDCG]), columns=[NDCG]), "datasets", std=True))
    assert found["sft"] == [r"\underline{0.2500}{\scriptsize\,$\pm$\,0.0100}"]
    assert found["dpo"] == [r"\textbf{0.5000}\phantom{{\scriptsize\,$\pm$\,0.0100}}"]


def test_one_seed_has_no_star_and_is_called_checkpoint_level() -> None:
    rows = {"sft": {NDCG: (0.25,)}, "dpo": {NDCG: (0.5,)}}
    tex = latex(leaderboard(block("x", "tiger", rows, columns=[NDCG]), columns=[NDCG]), "datasets", std=True)
    assert lines(tex)["dpo"] == [r"\textbf{0.5000}"]
    assert "One seed (42), 1,234 test users" in caption(tex)
    assert "Checkpoint-level only, no stars" in caption(tex)


def test_a_single_method_is_not_marked() -> None:
    rows = {"sft": {NDCG: level(0.25)}}
    single = replace(block("x", "tiger", rows, columns=[NDCG]), remark="nothing to compare the baseline with")
    tex = latex(leaderboard(single, columns=[NDCG]), "datasets", std=False)
    assert lines(tex)["sft"] == ["0.2500"]
    assert "No stars: nothing to compare the baseline with." in caption(tex)


def test_small_numbers_keep_their_digits() -> None:
    rows = {"sft": {DGU: (-0.5,)}, "dpo": {DGU: (0.000213,)}}
    found = lines(latex(leaderboard(block("x", "tiger", rows, columns=[DGU]), columns=[DGU]), "datasets", std=False))
    assert found["sft"] == [r"\textbf{\textminus{}0.5000}"]


def test_an_unknown_layout_is_answered_with_the_nearest(table: Table) -> None:
    with pytest.raises(ConfigError, match=r"no layout 'aspect' of a LaTeX table; did you mean 'aspects'\?$"):
        latex(table, "aspect", std=False)


def test_the_head_names_suite_version_and_protocols_in_comments(table: Table) -> None:
    head = [line for line in latex(table, "datasets", std=False).splitlines() if line.startswith("%")]
    assert head[0].startswith("% suite tiny_suite, layout datasets; generated by rlrecbench 0.")
    assert head[1:3] == ["% protocol of beauty: " + "beauty" + "f" * 58, "% protocol of yelp: " + "yelp" + "f" * 60]
    assert r"\label{tab:tiny-suite-datasets}" in latex(table, "datasets", std=False)


def test_a_variant_stands_under_its_method(table: Table) -> None:
    """Rules stand around gflowgr-tb with its variant, although flower comes later in the suite than sft and dpo."""
    tex = latex(table, "ablation", std=False)
    first = tex.split(r"\end{tabular}}")[0]
    groups = [[*lines(part)] for part in first.split(r"\midrule")[1:]]
    assert groups == [["sft", "dpo", "flower"], ["gflowgr-tb", "gflowgr-tb-light"]]
    assert tex.count(r"\begin{tabular}{") == 3


def test_aspects_group_metrics_by_what_they_are_about(table: Table) -> None:
    columns = (ENTROPY, DGU, NDCG, Column("kl-popularity@10", "lower", "list"), RECALL)
    tex = latex(replace(table, columns=columns), "aspects", std=False)
    spans = re.findall(r"\\multicolumn\{(\d)\}\{c\}\{(\w+)\}", tex)
    assert spans == [("2", "accuracy"), ("1", "fairness"), ("1", "diversity"), ("1", "other")]
    heads = [line for line in tex.splitlines() if line.startswith("data set &")]
    assert [re.sub(r"\W.*", "", h.strip()) for h in heads[0].split(" & ")[2:]] == [
        "ndcg",
        "recall",
        "dgu",
        "entropy",
        "kl",
    ]


def test_starts_stand_in_pairs_and_the_rest_below(table: Table) -> None:
    tex = latex(table, "starts", std=False, starts=STARTS)
    tiger = tex.split(r"\midrule")[1]
    runs = [
        [re.split(" *& *", line)[1:3] for line in run.strip().splitlines()] for run in tiger.split(r"\addlinespace")
    ]
    assert runs == [
        [[r"dpo\textsuperscript{\dag}", "sft"], ["gflowgr-tb", "flower"]],
        [["sft", ""], ["gflowgr-tb-light", "sft"], ["flower", "base"]],
    ]
    assert "Methods with the same settings and another start stand together" in caption(tex)
    assert "No two methods differ in their start alone" in caption(latex(table, "starts", std=False))


def test_a_row_with_flawed_lists_in_one_data_set_has_a_dagger() -> None:
    rows: Values = {"sft": {NDCG: level(0.25)}, "dpo": {NDCG: level(0.5)}}
    flaws = {"dpo": {"invalid_entries": 1}}
    blocks = [block(d, "tiger", rows, columns=[NDCG], audit=a) for d, a in (("x", {}), ("y", flaws))]
    assert r"dpo\textsuperscript{\dag} &" in latex(leaderboard(*blocks, columns=[NDCG]), "datasets", std=False)


def test_starts_come_from_the_suite_or_else_from_the_trainings(
    tmp_path: Path, suite: Callable[..., None], cell: Callable[..., Path]
) -> None:
    """The suite leaves dpo's open: its models come out of sft's training and one more; ipa's out of dpo's."""
    entries = [
        {"name": "most-popular", "label": "most-popular", "settings": {}, "start": None},
        {"name": "sft", "label": "sft", "settings": {}, "start": None},
        {"name": "dpo", "label": "dpo", "settings": {"lr": 1}, "start": None},
        {"name": "dpo", "label": "ppo", "settings": {"lr": 1}, "start": "flower"},
        {"name": "ppo", "label": "ipa", "settings": {}, "start": None},
    ]
    suite(tmp_path, methods=entries)
    stages = {"sft": ["train/1"], "dpo": ["train/1", "train/2"], "ppo": ["train/3", "train/4"], "most-popular": []}
    stages["ipa"] = ["train/1", "train/2", "train/5"]
    for method, names in stages.items():
        provenance = {"fingerprint": "f", "stages": {name: {} for name in ("rank/9", *names)}}
        path = cell(
            tmp_path, "beauty", "none" if method == "most-popular" else "tiger", "sft", 42, provenance=provenance
        )
        path.parent.rename(path.parents[1] / f"{method}.")
    for path in tmp_path.glob("cells/*/*/*."):
        path.rename(path.with_name(path.name[:-1]))
    found = starts(results.load(tmp_path))
    assert {label: s.start for label, s in found.items()} == {
        "most-popular": "",
        "sft": "",
        "dpo": "sft",
        "ppo": "flower",
        "ipa": "dpo",
    }
    assert found["dpo"].recipe == found["ppo"].recipe != found["sft"].recipe


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b & 50% #1", r"a\_b \& 50\% \#1"),
        ("{$x$}", r"\{\$x\$\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("Δ ± · ↑ °", r"$\Delta$ $\pm$ $\cdot$ $\uparrow$ $^{\circ}$"),
        ("λ=1, Λ", r"$\lambda$=1, $\Lambda$"),
        ("a--b", "a-{}-b"),
        ("a\n b\t c", "a b c"),
        ("é Ł ﬁ ½", "é Ł fi 12"),
        ("中", "[U+4E2D]"),
        ("\x00\x1b", "[U+0000][U+001B]"),
    ],
)
def test_escaping(text: str, tex: str) -> None:
    assert escape(text) == tex


def test_a_comment_is_one_line() -> None:
    assert comment("a\n\\evil") == "% a \\evil"


def big(methods: int, datasets: int, columns: Sequence[Column]) -> Table:
    names = ["sft", *(f"gflowgr-tb-{i}" for i in range(1, methods))]
    rows = {name: {c: level(0.1 + 0.01 * i, 0.001) for c in columns} for i, name in enumerate(names)}
    blocks = [
        block(d, b, rows, columns=columns, stars=names[1:])
        for d in ("beauty", "yelp", "instruments")[:datasets]
        for b in ("tiger", "letter")
    ]
    return leaderboard(*blocks, columns=columns)


FOUR = tuple(Column(m, "higher", "user") for m in ("recall@5", "recall@10", "ndcg@5", "ndcg@10"))
MANY = (*FOUR, *(Column(m, "lower", "list") for m in ("dgu@10", "mgu@10", "kl-popularity@10", "gini@10")), ENTROPY)


def test_the_paper_s_table_fits_a_page_as_it_is() -> None:
    """12 methods on 2 backbones and 2 data sets with 4 metrics, as in GFlowGR's Table 1."""
    table = big(12, 2, FOUR)
    tex = latex(table, "datasets", std=False)
    assert tex.count(r"\begin{tabular}{@") == 1
    assert r"\begin{table*}" in tex
    assert fitted(side_by_side(table, ["beauty", "yelp"]), table, std=False).width <= PAGE
    assert r"\setlength" not in tex


def test_what_is_too_wide_becomes_a_grid_per_data_set() -> None:
    assert latex(big(3, 3, MANY), "datasets", std=False).count(r"\begin{tabular}{@") == 3


def test_what_is_taller_than_a_page_goes_on_under_the_same_number() -> None:
    """Two backbones with 30 methods are 60 lines: a page each. With 50 methods the backbone is cut too."""
    tex = latex(big(30, 1, FOUR), "datasets", std=False)
    assert tex.count(r"\begin{table*}") == tex.count(r"\multirow") == 2
    assert tex.count(r"\addtocounter{table}{-1}\caption{(continued)}") == tex.count(r"\label") == 1
    longer = latex(big(50, 1, FOUR), "datasets", std=False)
    assert [grid.count("gflowgr") + grid.count("sft &") for grid in longer.split(r"\toprule")[1:]] == [46, 4] * 2


def test_a_small_table_stands_in_a_column() -> None:
    rows = {"sft": {NDCG: level(0.25)}, "dpo": {NDCG: level(0.5)}}
    tex = latex(leaderboard(block("x", "tiger", rows, columns=[NDCG]), columns=[NDCG]), "datasets", std=False)
    assert r"\begin{table}[t]" in tex


TOOLS = pytest.mark.skipif(
    not all(map(shutil.which, ("pdflatex", "pdftotext"))),
    reason="needs pdflatex and pdftotext (apt-get install texlive-latex-extra lmodern poppler-utils)",
)


def compiled(folder: Path, text: str) -> tuple[str, str]:
    """Compile a document; return what the PDF says, and the log."""
    (folder / "all.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=600)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    command = ["pdftotext", "-layout", "all.pdf", "-"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout, log


@pytest.mark.latex
@TOOLS
@pytest.mark.parametrize("case", ["mixed", "one seed", "single method", "weird labels", "large", "tall", "transposed"])
def test_every_layout_compiles(tmp_path: Path, table: Table, transposed: Path, case: str) -> None:
    one = {name: dict.fromkeys(COLUMNS, (v,)) for name, v in (("sft", 0.25), ("dpo", 0.5))}
    weird = {"sft": one["sft"], WEIRD: one["dpo"]}
    tables = {
        "mixed": table,
        "one seed": leaderboard(block("beauty", "tiger", one)),
        "single method": leaderboard(block("beauty", "none", {"sft": one["sft"]})),
        "weird labels": leaderboard(block(WEIRD, WEIRD, weird), suite=WEIRD),
        "large": big(12, 3, MANY),
        "tall": big(50, 1, FOUR),
        "transposed": report.build(results.load(transposed)),
    }
    texts = [latex(tables[case], layout, std=std, starts=STARTS) for layout in LAYOUTS for std in (False, True)]
    shown, log = compiled(tmp_path, document(texts))
    overfull = [float(pt) for pt in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(overfull, default=0.0) <= 5
    assert "Float too large" not in log
    assert shown.count("Table ") >= len(texts)
    numbers = {f"{v.mean:.4f}" for b in tables[case].blocks for r in b.rows for v in r.values.values() if v}
    assert {n for n in numbers if n != "nan" and n not in shown} == set()
    if case == "weird labels":
        assert "a_b 50% & #1" in shown
        assert r"\end{tabular} $c$" in shown
        assert "[U+4E2D]" in shown


@pytest.mark.latex
@TOOLS
@pytest.mark.parametrize("std", [False, True])
def test_widths_are_estimated_well(tmp_path: Path, std: bool) -> None:
    """The estimate lies within 12 % of the width that TeX measures."""
    table = big(4, 2, FOUR)
    grid = fitted(side_by_side(table, ["beauty", "yelp"]), table, std)
    tabular = grid.tex().partition("%\n")[2].removesuffix("}")
    measured = rf"{{\small\setbox0=\hbox{{{tabular}}}\typeout{{WIDTH \the\wd0}}}}"
    _, log = compiled(tmp_path, document(["x " + measured]))
    (width,) = re.findall(r"WIDTH ([\d.]+)pt", log)
    assert float(width) == pytest.approx(grid.width, rel=0.12)
