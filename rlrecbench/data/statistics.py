"""Count what a data set holds, beside what is published about it, and check that its files are whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench.data.atomic_files import made_here
from rlrecbench.data.datasets import DatasetSpec, checksum, locate, source_names, spec_of
from rlrecbench.data.frame import PARTS, Dataset, Examples, Ints
from rlrecbench.data.prepare import DataOptions, Interactions, prepare, read_interactions
from rlrecbench.data.readers import find_file
from rlrecbench.errors import DataError
from rlrecbench.store import sha256_of

Number = int | float
_OWN = DataOptions()


class Verdict(NamedTuple):
    """What was checked, whether it holds, and the reason."""

    file: str
    ok: bool
    detail: str


def info(name: str, dirs: Sequence[Path], options: DataOptions = _OWN) -> dict[str, Any]:
    """Describe a data set.

    Returns:
        name, title, protocol, source, folder, settings, checksum and ``statistics``: for each figure
        ``computed``, ``published`` (None where nothing is) and ``match`` (None where nothing is published or
        the options are not the protocol's own). Lengths and histories are in items, sparsity in percent.

    Raises:
        DataError: The data set is missing or broken.
        ConfigError: The options do not suit the protocol.
    """
    spec, folder = spec_of(name, dirs), locate(name, dirs)
    data = prepare(name, options, dirs)
    figures = _of_examples(data)
    if find_file(folder / f"{name}.inter"):
        _, interactions = read_interactions(name, folder, options.last)
        figures = _of_interactions(interactions, data) | figures
    own = data.settings == {"max_history": spec.max_history, "last": None}
    return {
        "name": name,
        "title": spec.title,
        "protocol": spec.protocol,
        "source": spec.source,
        "folder": str(folder),
        "settings": data.settings,
        "checksum": data.checksum,
        "statistics": {key: _beside(value, spec.published.get(key), own) for key, value in figures.items()},
    }


def verify(name: str, dirs: Sequence[Path]) -> list[Verdict]:
    """Compare files with the data folder's SHA256SUMS, content and statistics with what is published.

    Raises:
        DataError: The data set is missing, or SHA256SUMS cannot be read.
    """
    spec, folder = spec_of(name, dirs), locate(name, dirs)
    made: dict[str, str] = {}
    try:
        made = made_here(folder)
        content = _content(spec, folder, made)
        published = [
            Verdict(key, f["match"], f"computed {f['computed']}, published {f['published']}")
            for key, f in info(name, dirs)["statistics"].items()
            if f["match"] is not None
        ]
    except DataError as e:
        content, published = [Verdict(name, False, str(e))], []
    released = bool(spec.content) and not made and all(v.ok for v in content)
    verdicts = [*_sums(spec, folder, released), *content, *published]
    if not verdicts:
        sums = folder.parent / "SHA256SUMS"
        return [Verdict(name, False, f"nothing to compare with: no line in {sums} and nothing published")]
    return verdicts


def _of_interactions(rows: Interactions, data: Dataset) -> dict[str, Number]:
    counts = np.bincount(rows.user, minlength=len(rows.users))
    pairs = len(np.unique(rows.user * data.n_items + rows.item))
    figures: dict[str, Number] = {
        "users": len(rows.users),
        "items": data.n_items,
        "interactions": len(rows.item),
        "mean_length": float(counts.mean()),
        "min_length": int(counts.min()),
        "max_length": int(counts.max()),
        "sparsity": 100 * (1 - len(rows.item) / (len(rows.users) * data.n_items)),  # percent
        "repeats": len(rows.item) - pairs,
    }
    if data.protocol == "leave-one-out":
        figures["users_truncated_at_test"] = int((counts - 1 > data.settings["max_history"]).sum())
        figures |= _last_repeated(rows, data.n_items)
    return figures


def _last_repeated(rows: Interactions, n_items: int) -> dict[str, Number]:
    """Count users whose last item stands among their earlier ones, however long ago, or right before it."""
    pair = rows.user * n_items + rows.item
    _, index, counts = np.unique(pair, return_inverse=True, return_counts=True)
    last = np.flatnonzero(np.diff(rows.user, append=-1))
    before = last[last > 0]
    return {
        "test_targets_repeated": int((counts[index[last]] > 1).sum()),
        "test_targets_just_seen": int((pair[before] == pair[before - 1]).sum()),
    }


def _of_examples(data: Dataset) -> dict[str, Number]:
    title = pd.factorize(data.items["title"])[0]
    item = np.arange(data.n_items)
    seen = np.zeros(data.n_items, bool)
    seen[data.train.values] = seen[data.train.target] = True
    heard = np.zeros(int(title.max()) + 1, bool)
    heard[title[data.train.values]] = True
    p50, p75, p90 = np.percentile(data.train.lengths, [50, 75, 90])
    return {
        "train_rows": len(data.train),
        "valid_rows": len(data.valid),
        "test_rows": len(data.test),
        "mean_train_history": float(data.train.lengths.mean()),
        "p50_train_history": float(p50),
        "p75_train_history": float(p75),
        "p90_train_history": float(p90),
        "mean_test_history": float(data.test.lengths.mean()),
        "history_occurrences": len(data.train.values),
        "distinct_titles": len(heard),
        "history_titles": int(heard.sum()),
        "items_unseen": int((~seen).sum()),
        "valid_targets_unseen": int((~seen[data.valid.target]).sum()),
        "test_targets_unseen": int((~seen[data.test.target]).sum()),
        "test_titles_unseen_percent": 100 * float((~heard[title[data.test.target]]).mean()),
        "targets_in_history": sum(int(_in_history(data.part(part), item).sum()) for part in PARTS),
        "test_titles_in_history_percent": 100 * float(_in_history(data.test, title).mean()),
    }


def _in_history(rows: Examples, kind: Ints) -> NDArray[np.bool_]:
    """Whether an item of the target's kind (``kind`` [N]: its number or title) is in the history, [R]."""
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    same = kind[rows.values] == kind[rows.target[row]]
    return np.isin(np.arange(len(rows)), row[same])


def _beside(computed: Number, printed: str | None, comparable: bool) -> dict[str, Any]:
    """Put a computed figure beside a printed one; they match if the computed one is printed the same."""
    if printed is None:
        return {"computed": computed, "published": None, "match": None}
    decimals = len(printed.partition(".")[2])
    match = f"{computed:.{decimals}f}" == printed if comparable else None
    return {"computed": computed, "published": float(printed) if decimals else int(printed), "match": match}


def _content(spec: DatasetSpec, folder: Path, made: Mapping[str, str]) -> list[Verdict]:
    """Compare with the released files, or with what ``data prepare`` wrote where it made the folder."""
    if made:
        return [_as_made(folder / name, sha) for name, sha in made.items()]
    if not spec.content:
        return []
    found = checksum(spec.name, folder)
    detail = "as released" if found == spec.content else f"checksum {found}, released {spec.content}"
    return [Verdict("content", found == spec.content, detail)]


def _as_made(file: Path, sha: str) -> Verdict:
    held = file.is_file() and sha256_of(file) == sha
    return Verdict(file.name, held, "as prepared" if held else "missing, or changed since it was prepared")


def _sums(spec: DatasetSpec, folder: Path, released: bool) -> list[Verdict]:
    """Check each file that SHA256SUMS lists; ``released`` says that the source files' content is right."""
    verdicts = []
    for listed, expected in _listed(folder.parent / "SHA256SUMS").items():
        if not listed.startswith(f"{spec.name}/"):
            continue
        file = folder.parent / listed
        if file.is_file():
            found = sha256_of(file)
            detail = "sha256 as listed" if found == expected else f"sha256 {found}, listed {expected}"
            verdicts.append(Verdict(listed, found == expected, detail))
        elif file.suffix == ".gz" and file.with_suffix("").is_file():
            known = released and file.stem in source_names(spec)
            detail = "decompressed; its content is as released" if known else "decompressed, so it cannot be compared"
            verdicts.append(Verdict(listed, known, detail))
        else:
            verdicts.append(Verdict(listed, False, "missing"))
    return verdicts


def _listed(file: Path) -> dict[str, str]:
    """Read what ``sha256sum`` printed: file -> sha256; nothing where there is no such file."""
    if not file.is_file():
        return {}
    sums = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{file}: cannot be read as UTF-8 text: {e}") from e
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition(" ")
        if len(digest) != 64 or name[:1] not in (" ", "*"):
            raise DataError(
                f"{file}, line {number}: expected a sha256, two blanks and a file name, found {line[:80]!r}"
            )
        sums[name[1:].removeprefix("./")] = digest.lower()
    return sums
