"""The leaderboard as JSON: the table as it is, nothing rounded."""

import dataclasses
import json
from math import isfinite
from typing import Any

from rlrecbench.report.table import Table

SCHEMA = 3  # 2 had no contrasts and nothing across blocks; 1 named a block's label "backbone" and a row's "method"


def as_json(table: Table) -> str:
    """Write the leaderboard as JSON; null stands for what is unknown, undefined or unbounded."""
    return json.dumps({"schema": SCHEMA, **_plain(table)}, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Dataclasses and named tuples as objects; a dictionary whose keys are pairs as a list of objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict) and any(isinstance(key, tuple) for key in value):
        return [{"pair": list(key), **_value(v)} for key, v in value.items()]
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _value(value: Any) -> dict[str, Any]:
    """What stands beside a pair."""
    made = _plain(value)
    return made if isinstance(made, dict) else {"value": made}
