"""Write a data set's folder: gzip-compressed atomic files and where they come from, the same bytes every time."""

import gzip
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rlrecbench.errors import DataError
from rlrecbench.store import write_whole

PROVENANCE = "provenance.json"
_BREAKS = re.compile(r"[\t\r\n]+")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Make an atomic file.

    Args:
        columns: ``name:type`` of each column.
        rows: The values; tabs and line ends in a text become one blank, half of a surrogate pair a question mark.

    Returns:
        UTF-8 text, tab-separated, one line per row.
    """
    lines = ["\t".join(columns)]
    lines += ["\t".join(map(_field, row)) for row in rows]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _field(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else _BREAKS.sub(" ", text)


def check_writable(name: str, out: Path) -> None:
    """Refuse a folder that the folder NAME cannot be written to, before any work goes into what it will hold.

    Raises:
        DataError: NAME is not there and cannot be made.
    """
    try:
        if not (out / name).exists():
            out.mkdir(parents=True, exist_ok=True)
            Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out)).rmdir()
    except OSError as e:
        raise _unwritable(out / name, e) from e


def publish(name: str, out: Path, files: Mapping[str, bytes], provenance: Mapping[str, Any]) -> Path:
    """Write the folder NAME and rename it into place.

    Args:
        name: The data set.
        out: The folder that gets the folder NAME; made if it is not there.
        files: Content by name, without ``.gz``.
        provenance: What goes into ``provenance.json``, beside the files' sha256.

    Returns:
        The folder. One that holds the same data already is left alone, but for a provenance that is not theirs.

    Raises:
        DataError: The folder is there and holds something else, or cannot be written.
    """
    packed = {f"{file}.gz": _gzip(content) for file, content in files.items()}
    target = out / name
    try:
        if not target.exists():
            out.mkdir(parents=True, exist_ok=True)
            _rename_into_place(target, {**packed, PROVENANCE: _about(provenance, packed)})
        same = target.is_dir() and all(_holds(target / f"{file}.gz", content) for file, content in files.items())
        if same:
            there = {file: (target / file).read_bytes() for file in packed}  # perhaps packed by another zlib
            if not _accounts_for(target, _sums(there)):
                write_whole(target / PROVENANCE, _about(provenance, there))
    except OSError as e:
        raise _unwritable(target, e) from e
    if not same:
        raise DataError(
            f"{target} is there and holds something else; nothing was changed: move it away, or name another "
            "folder with --out"
        )
    return target


def made_here(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file as it was when the folder was made; nothing if it was not made by us.

    Raises:
        DataError: The provenance cannot be read.
    """
    file = folder / PROVENANCE
    if not file.is_file():
        return {}
    try:
        return {str(name): str(digest) for name, digest in json.loads(file.read_bytes())["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise DataError(f"{file}: not the provenance of a data set; prepare the data set again") from e


def _sums(packed: Mapping[str, bytes]) -> dict[str, str]:
    return {file: sha256(content).hexdigest() for file, content in packed.items()}


def _about(provenance: Mapping[str, Any], packed: Mapping[str, bytes]) -> bytes:
    """The content of provenance.json."""
    text = json.dumps({**provenance, "files": _sums(packed)}, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace")


def _accounts_for(folder: Path, sums: Mapping[str, str]) -> bool:
    """Whether a folder's provenance, where it has one, is of these files."""
    try:
        return not (folder / PROVENANCE).is_file() or made_here(folder) == sums
    except DataError:
        return False


def _unwritable(target: Path, e: OSError) -> DataError:
    return DataError(f"{target}: cannot be written: {e.strerror or e}; name another folder with --out")


def _rename_into_place(target: Path, packed: Mapping[str, bytes]) -> None:
    new = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for file, content in packed.items():
            with (new / file).open("wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
        new.chmod(0o777 & ~_umask())
        try:
            new.rename(target)
        except OSError:
            if not target.is_dir():  # else: another process was faster
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _gzip(content: bytes) -> bytes:
    """Compress without name and time; not gzip.compress, whose header says on which system it ran."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as f:
        f.write(content)
    return packed.getvalue()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _holds(file: Path, content: bytes) -> bool:
    """Whether a gzip file has this content, however it was compressed."""
    try:
        return gzip.decompress(file.read_bytes()) == content
    except (FileNotFoundError, IsADirectoryError, EOFError, zlib.error, gzip.BadGzipFile):
        return False
