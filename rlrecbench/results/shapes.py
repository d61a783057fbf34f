"""What the JSON files of a results folder must look like; further keys are welcome."""

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rlrecbench.config import shown
from rlrecbench.errors import StoreError

Json = dict[str, Any]
LONGEST = 100_000  # of a list; a damaged rank must not fill the memory


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Entry(_Open):
    """A line of ``datasets``, ``backbones`` or ``methods``."""

    label: str


class SuiteFile(_Open):
    """``suite.json``."""

    name: str
    seeds: list[int]
    datasets: list[Entry]
    backbones: list[Entry]
    methods: list[Entry]
    metrics: list[str]
    stats: Json = {}


class Failed(_Open):
    """A line of ``failures.json``."""

    cell: str
    reason: str


class Protocol(_Open):
    """The conditions under which a cell was measured."""

    k: Annotated[int, Interval(ge=0, le=LONGEST)] = 0
    options: Json = {}


class Provenance(_Open):
    """Where a record comes from."""

    fingerprint: str
    protocol: Protocol = Protocol()
    stages: dict[str, Json] = {}
    versions: dict[str, str | None] = {}
    date: str | None = None
    commit: str | None = None
    device: str | None = None
    method: str | None = None


class RecordFile(_Open):
    """``metrics.json``."""

    metrics: dict[str, float | None]
    provenance: Provenance
    audit: dict[str, int] = {}
    cost: dict[str, float | bool | None] = {}


suite_file = TypeAdapter(SuiteFile)
record_file = TypeAdapter(RecordFile)
failures_file = TypeAdapter(list[Failed])


def check(shape: TypeAdapter[Any], data: Any, path: Path, fix: str) -> None:
    """Look whether the content of a file has its shape.

    Raises:
        StoreError: It has not; the message names the file and the place in it.
    """
    try:
        shape.validate_python(data)
    except ValidationError as e:
        error = e.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
        problem = f"{place or 'the content'}: {error['msg'].removeprefix('Input ')}, found {shown(error['input'])}"
        if error["type"] == "missing":
            problem = f"the key {place!r} is missing"
        raise StoreError(f"{path}: {problem}; {fix}") from e
