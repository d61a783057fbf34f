"""All blocks together: won, tied and lost for every pair of rows, and average ranks."""

from rlrecbench.report import words
from rlrecbench.report.page.origin import Json
from rlrecbench.report.table import Across, Table


def matrix(table: Table) -> Json | None:
    """The win / tie / loss matrix and, from eight blocks on, the average ranks; None where there is one block."""
    across = table.across
    if across is None:
        return None
    return {
        "blocks": across.blocks,
        "labels": list(across.rows),
        "rows": [{"label": a, "cells": [_cell(across, a, b) for b in across.rows]} for a in across.rows],
        "ranks": _ranks(across),
    }


def _cell(across: Across, a: str, b: str) -> Json | None:
    """What came of a pair; None where both are the same row or no block holds both."""
    pair = across.pairs.get((a, b))
    if pair is None:
        return None
    side = "won" if pair.won > pair.lost else "lost" if pair.lost > pair.won else "even"
    share = "" if pair.relative is None else f"{100 * pair.relative:+.1f} %"
    said = f"{a} against {b}: won {pair.won}, tied {pair.tied}, lost {pair.lost}" + (f", {share}" if share else "")
    return {"count": f"{pair.won} / {pair.tied} / {pair.lost}", "effect": share, "side": side, "said": said}


def _ranks(across: Across) -> Json | None:
    """Average ranks, best first, and the groups that cannot be told apart."""
    found = across.ranks
    if found is None:
        return None
    order = sorted(range(len(found.ranks)), key=lambda i: (found.ranks[i], i))
    return {
        "p": words.p_value(found.p),
        "nemenyi": words.number(found.nemenyi),
        "rows": [
            {
                "label": across.ranked[i],
                "rank": words.number(found.ranks[i]),
                "groups": [chr(ord("a") + g) for g, clique in enumerate(found.cliques) if i in clique],
            }
            for i in order
        ],
    }
