"""What the mutation run changes and what it leaves alone, by example."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

mutants: Any = import_module("mutants")

SOURCE = '''
"""A module."""

from typing import Literal

LIMIT = 3
Side = Literal["left", "right"]


class Counter:
    """A class."""

    def up(self, start: int, by: int = 2) -> int:
        """Count."""
        assert by > 0
        if start < LIMIT and by:
            raise ValueError(f"below {LIMIT + 1}: " + "too low")
        return max(start, by) * pow(start, by)
'''


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "counter.py"
    path.write_text(SOURCE)
    return path


def test_every_change_is_named(module: Path) -> None:
    found = [(m.scope, m.name.partition(": ")[2]) for m in mutants.mutants(module, module.parent)]
    body = "Counter.up"
    assert found == [
        ("", "LIMIT = 3 -> LIMIT = 4"),
        ("", "2 -> 3"),
        (body, "start < LIMIT and by -> not (start < LIMIT and by)"),
        (body, "start < LIMIT and by -> start < LIMIT or by"),
        (body, "start < LIMIT and by -> start <= LIMIT and by"),
        (body, "return max(start, by) * pow(start, by) -> return None"),
        (body, "max(start, by) * pow(start, by) -> max(start, by) / pow(start, by)"),
        (body, "max(start, by) -> min(start, by)"),
        (body, "max(start, by) * pow(start, by) -> max(start, by) * pow(by, start)"),
    ]


def test_a_change_is_compiled(module: Path) -> None:
    def up(place: int, start: int) -> int | None:
        space: dict[str, Any] = {}
        exec(mutants.mutants(module, module.parent)[place].compile(), space)  # noqa: S102 - this is what is tested
        result: int | None = space["Counter"]().up(start)
        return result

    assert up(1, 3) == 3 * 3**3
    assert up(5, 3) is None
    assert up(7, 3) == 2 * 3**2
    with pytest.raises(ValueError, match="below 4: too low"):
        up(4, 3)


def test_equal_changes_of_one_function_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "twice.py"
    path.write_text("def f(x):\n    y = x + 1\n    return y + (x + 1)\n")
    names = [m.name for m in mutants.mutants(path, tmp_path)]
    assert len(set(names)) == len(names)
    assert "twice.py::f: x + 1 -> x + 2 #2" in names


def test_a_line_of_a_long_statement_knows_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("def f(x):\n    if x:\n        return g(\n            1,\n            x,\n        )\n")
    found = {m.name.partition(": ")[2]: m.lines for m in mutants.mutants(path, tmp_path)}
    assert found["x -> not x"] == (2, 2)
    assert found["g(1, x) -> g(2, x)"] == (3, 6)
