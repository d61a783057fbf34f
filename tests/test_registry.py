"""Names, did-you-mean, origins, plug-in files."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from rlrecbench import registry
from rlrecbench.errors import ConfigError, UnknownNameError
from rlrecbench.registry import Registry, field_notes


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    kinds: Registry[type] = Registry("method")
    kinds.register("s-dpo")(int)
    with pytest.raises(
        UnknownNameError,
        match=r"x.yaml: methods\[3\]: no method 'sdpo'; did you mean 's-dpo'\? \(rlrecbench list methods\)",
    ):
        kinds.entry("sdpo", "x.yaml: methods[3]")


def test_a_name_far_from_all_lists_them() -> None:
    kinds: Registry[type] = Registry("metric")
    kinds.register("dgu")(int)
    with pytest.raises(UnknownNameError, match="known: dgu"):
        kinds.entry("zzzzzz")


def test_origin_and_summary() -> None:
    kinds: Registry[type] = Registry("method")

    @kinds.register("mine", cite="me2026")
    class Mine:
        """One line.

        More.
        """

    entry = kinds.entry("mine")
    path, _, line = entry.origin.rpartition(":")
    assert Path(path).name == "test_registry.py"
    assert "class Mine" in Path(path).read_text().splitlines()[int(line) : int(line) + 2][0] or int(line) > 0
    assert (entry.summary, entry.cite) == ("One line.", "me2026")


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "a b"])
def test_names_never_become_strange_paths(name: str) -> None:
    with pytest.raises(ConfigError, match="allowed are"):
        Registry[type]("method").register(name)


def _plugin(folder: Path, stem: str, name: str) -> Path:
    path = folder / f"{stem}.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from rlrecbench.api import FineTune, Step, method\n"
        f"@method('{name}')\n"
        "@dataclass(frozen=True)\n"
        "class Mine(FineTune):\n"
        "    '''Mine.'''\n"
        "    def loss(self, step: Step):\n"
        "        return -step.logp.mean()\n"
    )
    return path


def test_the_same_name_from_two_files_is_refused_and_both_are_named(tmp_path: Path) -> None:
    one, two = _plugin(tmp_path, "one", "twice"), _plugin(tmp_path, "two", "twice")
    registry.load_file(one)
    registry.load_file(one)  # the same file again is no clash
    with pytest.raises(ConfigError, match=r"'twice' is registered twice: in .*one\.py:\d+ and in .*two\.py:\d+"):
        registry.load_file(two)


def test_a_broken_plugin_names_file_line_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = x / 0\n")
    with pytest.raises(ConfigError, match=r"broken\.py, line 2: ZeroDivisionError: division by zero"):
        registry.load_file(path)
    with pytest.raises(ConfigError, match="does not exist"):
        registry.load_file(tmp_path / "absent.py")


def test_a_plugin_path_that_no_system_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plug-in file 'a\\x00b' cannot be looked for"):
        registry.load_file(Path("a\0b"))


def test_field_notes_are_the_trailing_comments() -> None:
    @dataclass(frozen=True)
    class Settings:
        """Settings."""

        beta: float = 0.1  # per nat; trl
        name: str = "a # b"  # a label
        bare: int = 1

    assert field_notes(Settings) == {"beta": "per nat; trl", "name": "a label"}
