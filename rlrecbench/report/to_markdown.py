"""The leaderboard in markdown: a heading, a table and a caption for every block."""

from rlrecbench.report import words
from rlrecbench.report.captions import NOTABLE, caption, empty, flawed, title
from rlrecbench.report.table import Block, Column, Row, Table

_STAR = r"\*"


def markdown(table: Table) -> str:
    """Write the leaderboard as markdown."""
    parts = [f"# {escape(table.suite)}"]
    for block in table.blocks:
        parts += [
            f"## {escape(title(block))}",
            _grid(table, block),
            "  \n".join(caption(table, block, _STAR)),
        ]
    if table.empty:
        parts.append(empty(table))
    return "\n\n".join(parts) + "\n"


def _grid(table: Table, block: Block) -> str:
    heads = [words.ROW[table.config.rows], *(f"{c.metric} {words.ARROW[c.better]}" for c in table.columns)]
    if block.family:
        heads += [f"Δ {table.config.primary} [95 %]", _p(table), "verdict", "users won / lost / tied"]
    heads.append("train s · rank s per 1,000 users")
    rule = ["---", *["---:"] * (len(heads) - 1)]
    rows = [_cells(table, block, row) for row in block.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _p(table: Table) -> str:
    return "p" if table.config.correction == "none" else "corrected p"


def _cells(table: Table, block: Block, row: Row) -> list[str]:
    out = [escape(row.label) + (" †" if flawed(row.audit) else "")]
    out += [_value(row, column, table) for column in table.columns]
    if block.family:
        c = row.comparison
        if c is not None:
            star = _STAR if c.star else ""
            out += [words.effect(c) + star, words.p_value(c.corrected_p), words.conclusion(c), words.users(c)]
        else:
            out += [words.ABSENT] * 2 + [
                "baseline" if row.label == block.baseline else words.ABSENT,
                words.ABSENT,
            ]
    return [*out, words.cost(row)]


def _value(row: Row, column: Column, table: Table) -> str:
    value = row.values.get(column.metric)
    if value is None:
        return words.ABSENT
    text = words.number(value.mean)
    text = {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[value.mark]
    starred = column.metric == table.config.primary and row.comparison is not None and row.comparison.star
    notable = value.contrast is not None and value.contrast.notable
    return text + (_STAR if starred else NOTABLE if notable else "") + words.spread(value)


def escape(text: str) -> str:
    """Text that markdown shows as it is."""
    for mark in "\\`*_|<[":
        text = text.replace(mark, "\\" + mark)
    return text
