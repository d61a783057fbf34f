"""``docs/methods.md``, ``show`` and ``list --markdown``: what is said about a method is what its code says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlrecbench import registry
from rlrecbench.backbones import backbones
from rlrecbench.cli import cli
from rlrecbench.cli.describe import describe, differs, meaning, shown
from rlrecbench.cli.markdown import COMMAND, page
from rlrecbench.cli.references import REFERENCES, paper
from rlrecbench.errors import ConfigError
from rlrecbench.method import methods
from rlrecbench.metrics import metrics
from rlrecbench.registry import Entry
from rlrecbench.rewards import rewards

registry.load()
ROOT = Path(__file__).parents[1]
BUILT_IN = [e for e in methods if e.value.__module__.startswith("rlrecbench.baselines.")]
PLUGIN = '''
"""Mine: a loss that is nobody's.

    loss = a * b | c
"""
from dataclasses import dataclass
from rlrecbench.api import FineTune, Weight, method

@method("docs-plugin", cite="me2026")
@dataclass(frozen=True)
class Mine(FineTune):
    """Minus log pi, times a*b.

    Differs:
        - The paper has <angle> brackets and
          a second line; here ``tau`` is fixed.
        - Another point.
    """

    redraw = 3
    reference = "start"
    tau: Weight = 1e-5  # temperature, |x| nats; ours

    def loss(self, step):
        return -step.logp[:, 0].mean()
'''


class _Base:
    """A base.

    Differs:
        - Of the base.
        - Of both.
    """


@dataclass(frozen=True)
class _Derived(_Base):
    """First line.

    Differs:
        - One point that goes on
          in a second line.
        - Of both.

    Source: a paper.
    """


class _Silent(_Base):
    pass


def test_methods_page_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "methods.md").read_text()
    assert committed == page(BUILT_IN), f"docs/methods.md is not what the code says; run: {COMMAND}"


def test_page_names_files_below_the_project_only() -> None:
    text = page(BUILT_IN)
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    for entry in BUILT_IN:
        assert f"\n## {entry.name}\n" in text
        assert (ROOT / "baselines" / Path(entry.origin.rpartition(":")[0]).name).is_file()


def test_deviations_are_cut_out_and_those_of_the_bases_follow_once() -> None:
    text, points = differs(_Derived)
    assert text == "First line.\n\nSource: a paper."
    assert points == ["One point that goes on in a second line.", "Of both.", "Of the base."]
    assert differs(_Silent)[1] == ["Of the base.", "Of both."]
    assert differs(lambda: None) == ("", [])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("start", "base", "the backbone as created"),
        ("start", "flower", "training starts from what flower gave"),
        ("redraw", None, "candidates are drawn once and stay"),
        ("redraw", 0, "candidates are drawn at every step"),
        ("redraw", 1, "candidates are drawn every epoch"),
        ("redraw", 2, "candidates are drawn every 2 epochs"),
        ("reference", None, "no reference policy"),
        ("reference", "start", "frozen reference policy: the one where training starts"),
        ("reference", 3, "frozen reference policy: renewed every 3 epochs"),
        ("measure", "trie", "log-probabilities over the legal tokens"),
        ("dropout", False, "the policy trains without dropout"),
    ],
)
def test_declarations_in_words(key: str, value: Any, words: str) -> None:
    assert meaning(key, value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        (True, "true"),
        (1e-5, "1e-5"),
        (0.05, "0.05"),
        (0, "0"),
        (("hit", "collab"), "[hit, collab]"),
        ({"lr": 1e-5, "clip": None}, "lr: 1e-5, clip: none"),
        ({}, "none"),
    ],
)
def test_values_as_a_suite_writes_them(value: Any, words: str) -> None:
    assert shown(value) == words


def test_citation_keys_have_papers_and_papers_are_cited() -> None:
    keys = {e.cite for e in BUILT_IN if e.cite}
    assert keys <= set(REFERENCES)
    others = {e.cite for kind in (rewards, metrics, backbones) for e in kind}
    assert set(REFERENCES) <= keys | others
    assert paper("rafailov2023dpo").endswith("NeurIPS 2023, 53728-53741. arXiv:2305.18290.")
    assert paper("gflowgr").startswith("Wang, Zhou, Lu, Liu, Li et al. GFlowGR: ")
    assert paper("me2026") == "me2026"


def test_facts_are_the_declarations_at_the_defaults() -> None:
    """SPRec declares its period; IPA's follows from a setting; PPO's updates are a setting and no declaration."""
    of = {e.name: describe(e, "method") for e in BUILT_IN}
    assert (of["sprec"]["facts"]["redraw"], of["sprec"]["facts"]["reference"]) == (2, 1)
    assert of["ipa"]["facts"]["needs"] == "collab"
    assert "updates" not in of["ppo"]["facts"]
    assert [s["default"] for s in of["ppo"]["settings"] if s["name"] == "updates"] == [4]
    assert of["dpo"]["facts"]["budget"]["lr"] == 1e-5
    assert "start" not in of["most-popular"]["facts"]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plug-in file in the working directory; what it registers is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "_entries", dict(methods._entries))
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.lstrip())
    return path


def test_show_has_deviations_once_under_a_heading(plugin: Path) -> None:
    shown = CliRunner().invoke(cli, ["show", "method", "docs-plugin", "--plugin", str(plugin)]).output
    assert "Differs" not in shown
    assert shown.count("Another point.") == 1
    lines = shown.splitlines()
    at = lines.index("Deviations")
    assert lines[at + 1].startswith("- The paper has <angle> brackets and a second line;")
    assert lines[0].startswith("docs-plugin  mine.py:")
    assert lines[1] == "Minus log pi, times a*b."
    about = json.loads(
        CliRunner().invoke(cli, ["show", "method", "docs-plugin", "--plugin", str(plugin), "--json"]).output
    )
    assert about["deviations"] == [
        "The paper has <angle> brackets and a second line; here ``tau`` is fixed.",
        "Another point.",
    ]
    assert about["text"].startswith("Mine: a loss that is nobody's.")
    assert "Differs" not in about["text"]


def test_markdown_of_a_plugin(plugin: Path) -> None:
    """Formulas are fenced, stars and angles escaped, bars in cells too, and the file is named without its folder."""
    text = CliRunner().invoke(cli, ["list", "methods", "--markdown", "--plugin", str(plugin)]).output
    section = text.partition("\n## docs-plugin\n")[2].partition("\n## ")[0]
    assert section.splitlines()[1] == r"Minus log pi, times a\*b."
    assert "\nme2026\n" in section
    assert "Code: [mine.py](../mine.py)" in section
    assert "```text\nloss = a * b | c\n```" in section
    assert r"- The paper has \<angle> brackets and a second line; here `tau` is fixed." in section
    assert r"| `tau` | `1e-5` | temperature, \|x\| nats; ours |" in section
    assert "| redraw | `3` | candidates are drawn every 3 epochs |" in section


def test_list_prints_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_entries", {e.name: e for e in BUILT_IN})
    assert CliRunner().invoke(cli, ["list", "methods", "--markdown"]).output == page(BUILT_IN)


@pytest.mark.parametrize("arguments", [["backbones", "--markdown"], ["methods", "--markdown", "--json"]])
def test_markdown_is_for_methods(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["list", *arguments])
    assert isinstance(result.exception, ConfigError)


def test_a_method_without_a_paper_has_no_empty_line_for_it() -> None:
    entry = next(e for e in BUILT_IN if e.name == "most-popular")
    assert page([Entry(entry.name, entry.value, "", entry.origin)]).count("\n\n\n") == 0
