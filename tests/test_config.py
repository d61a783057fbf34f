"""YAML in, frozen dataclasses out, and errors that name their place."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrecbench.config import Count, Share, Weight, build, canonical, digest, parse_yaml, read_yaml
from rlrecbench.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    """Inner settings."""

    size: Count = 3


@dataclass(frozen=True)
class Settings:
    """Settings."""

    beta: float = 0.1
    steps: Count = 5
    share: Share = 0.5
    tokens: Count | Literal["item"] = 1
    weight: Weight = 0.0
    names: tuple[str, ...] = ("a",)
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"beta": "0.1"}, r"x.yaml: methods\[2\].beta: .*valid number, found \"0.1\""),
        ({"steps": -1}, r"methods\[2\].steps: .*greater than 0, found -1"),
        ({"steps": True}, r"methods\[2\].steps: .*integer, found true"),
        ({"steps": 1.5}, r"methods\[2\].steps"),
        ({"share": 1.5}, r"methods\[2\].share: .*less than or equal to 1"),
        ({"bta": 1}, r"methods\[2\].bta: unknown setting; did you mean 'beta'\?"),
        ({"names": "a"}, r"methods\[2\].names"),
        ({"names": ["a", 1]}, r"methods\[2\].names\[1\]"),
        ({"inner": {"size": 0}}, r"methods\[2\].inner.size: .*greater than 0"),
        ({"weight": float("inf")}, r"methods\[2\]"),
        ({"tokens": "all"}, r"methods\[2\].tokens: .*integer, found \"all\"; .*methods\[2\].tokens: should be 'item'"),
        ([1], r"expected a mapping of settings, found \[1\]"),
    ],
)
def test_errors_name_the_place(data: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Settings, data, "x.yaml: methods[2]")


def test_good_settings() -> None:
    built = build(Settings, {"beta": 1, "names": ["x", "y"], "inner": {"size": 7}}, "here")
    assert built == Settings(beta=1.0, names=("x", "y"), inner=Inner(7))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0e-5", 1e-5),
        ("2E3", 2000.0),
        ("-3e+2", -300.0),
        ("0.5", 0.5),
        ("7", 7),
        ("e5", "e5"),
        ("null", None),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "expected keys"),
        ("a: [1\n", "not valid YAML"),
        ("a: 1\na: 2\n", "line 2: not valid YAML: the key 'a' stands twice"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: *nothing\n", "not valid YAML"),
        ("[1]: 2\n", "not valid YAML"),
        ("a: 2024-99-99\n", "not valid YAML"),
    ],
)
def test_files_that_are_not_suites(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "b.yaml")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_JSON)
def test_identity_ignores_the_order_of_keys(value: object) -> None:
    backwards = dict(reversed(list(value.items()))) if isinstance(value, dict) else value
    assert canonical(value) == canonical(backwards)
    assert digest(value) == digest(backwards)
    assert len(digest(value)) == 64
