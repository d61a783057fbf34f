"""Named things that a suite can ask for: methods, backbones, data sets, metrics, rewards.

A decorator registers, a wrong name is answered with the nearest right one, and every entry remembers the
file and line it came from. The package's own baselines, a suite's ``plugins:`` and installed distributions
(entry points of the group ``rlrecbench.plugins``) all come in through :func:`load`, so a newcomer's method
is the same kind of thing as ours.
"""

import dataclasses
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import textwrap
import tokenize
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from rlrecbench.errors import ConfigError, UnknownNameError

T = TypeVar("T")
NAMES = "lower-case letters, digits, '.', '_' and '-', 100 at most, beginning with a letter or digit"
_PLUGIN = "rlrecbench_plugin_"  # what the module of a plug-in file is called, before its own name
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")  # safe as a folder's name on every system


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing.

    Attributes:
        name: What a suite writes.
        value: The class or function.
        cite: Citation key of the paper, or "".
        origin: ``file:line`` of the definition.
    """

    name: str
    value: T
    cite: str
    origin: str

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.value) or "").partition("\n")[0]


def is_name(text: str) -> bool:
    """Tell whether a text may name something that becomes a folder."""
    return _NAME.fullmatch(text) is not None


class Registry(Generic[T]):
    """Names of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, *, cite: str = "") -> Callable[[T], T]:
        """Return a decorator that registers a class or function under ``name``.

        Raises:
            ConfigError: The name has characters that could not be a folder's name, or is taken by another file.
        """
        if not isinstance(name, str) or not is_name(name):
            raise ConfigError(f"{self.kind} name {name!r}: allowed are {NAMES}")

        def add(value: T) -> T:
            origin = _origin(value)
            old = self._entries.get(name)
            if old is not None and old.origin.rpartition(":")[0] != origin.rpartition(":")[0]:
                raise ConfigError(
                    f"{self.kind} {name!r} is registered twice: in {old.origin} and in {origin}; rename one of them"
                )
            self._entries[name] = Entry(name, value, cite, origin)
            return value

        return add

    def entry(self, name: str, where: str = "") -> Entry[T]:
        """Look a name up; on a miss, ask the installed plug-ins before giving up.

        Args:
            name: What the suite wrote.
            where: Place to name in the error, such as ``suites/x.yaml: methods[2]``.

        Raises:
            UnknownNameError: No such name; the message proposes the nearest one.
        """
        if name not in self._entries:
            load_entry_points()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1, cutoff=0.5)
            guess = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(self._entries))}"
            plural = {"metric": "metrics", "reward": "rewards", "dataset": "datasets"}.get(self.kind, self.kind + "s")
            raise UnknownNameError(
                f"{where}{': ' if where else ''}no {self.kind} {name!r}; {guess} (rlrecbench list {plural})"
            )
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        """Return what is registered under ``name``."""
        return self.entry(name).value

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is registered."""
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        """Iterate over the entries in alphabetical order."""
        return iter(sorted(self._entries.values(), key=lambda e: e.name))


def load(plugins: Sequence[Path] = ()) -> None:
    """Import the package's baselines, then plug-in files.

    Raises:
        ConfigError: A plug-in file is missing or fails to import.
    """
    import rlrecbench.baselines as builtin

    for module in pkgutil.iter_modules(builtin.__path__):
        importlib.import_module(f"rlrecbench.baselines.{module.name}")
    for path in plugins:
        load_file(path)


def load_file(path: Path) -> None:
    """Import one plug-in file; importing the same file twice does nothing.

    Raises:
        ConfigError: The file is missing or fails to import.
    """
    try:
        path, there = path.resolve(), path.is_file()
    except (OSError, ValueError) as e:
        raise ConfigError(f"plug-in file {str(path)!r} cannot be looked for: {e}") from e
    if not there:
        raise ConfigError(f"plug-in file {path} does not exist; a suite's plugins are relative to the suite file")
    name = f"{_PLUGIN}{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plug-in file {path} is not a Python file (*.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as e:
        del sys.modules[name]
        frames = traceback.extract_tb(e.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(path)), getattr(e, "lineno", 1))
        raise ConfigError(f"plug-in file {path}, line {line}: {_first_line(e)}") from e


def loaded_files() -> list[Path]:
    """The plug-in files that this process has imported, in that order."""
    return [Path(m.__file__ or "") for n, m in sys.modules.items() if n.startswith(_PLUGIN)]


def load_entry_points() -> None:
    """Import the plug-ins of installed distributions (entry points ``rlrecbench.plugins``).

    Raises:
        ConfigError: One fails to import.
    """
    for point in importlib.metadata.entry_points(group="rlrecbench.plugins"):
        try:
            point.load()
        except (Exception, SystemExit) as e:
            package = point.dist.name if point.dist is not None else point.value
            raise ConfigError(
                f"plug-in {point.name!r} of the installed package {package} cannot be imported: {_first_line(e)}; "
                f"repair it, or pip uninstall {package}"
            ) from e


def _first_line(e: BaseException) -> str:
    """An error in one line; our own sentences stand for themselves."""
    first = next(iter(str(e).splitlines()), "")
    return first if isinstance(e, ConfigError) else f"{type(e).__name__}: {first}".removesuffix(": ")


def field_notes(cls: type[Any]) -> dict[str, str]:
    """Return the trailing comment of each dataclass field: its one-line documentation (unit; source)."""
    notes: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            lines = textwrap.dedent(inspect.getsource(base)).splitlines(keepends=True)
        except OSError:
            continue
        source = iter(lines)
        name = ""
        for token in tokenize.generate_tokens(lambda source=source: next(source, "")):  # type: ignore[misc]
            field = re.match(r"\s+(\w+)\s*:[^:]", token.line)
            name = field.group(1) if field else "" if token.type == tokenize.NEWLINE else name
            if token.type == tokenize.COMMENT and name in base.__dataclass_fields__:
                notes[name] = token.string.lstrip("# ")
    return notes


def _origin(value: object) -> str:
    try:
        return f"{inspect.getsourcefile(value)}:{inspect.getsourcelines(value)[1]}"  # type: ignore[arg-type]
    except (OSError, TypeError):
        return f"{getattr(value, '__module__', '?')}:0"
