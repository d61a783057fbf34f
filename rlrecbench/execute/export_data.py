"""What tables need to know of a data set, beside the records: the catalogue and the test rows.

With ``data/<data set>/items.parquet`` and ``rows.parquet`` a results folder explains itself: intervals of group and
word metrics, exposure figures and case studies need neither the store nor the source files.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from rlrecbench.data.frame import Dataset, Examples
from rlrecbench.metrics import Reference
from rlrecbench.store import Store, unwritable
from rlrecbench.suite import Cell

_MADE_FROM = b"rlrecbench.key"  # of the stage that the files were made from, in their metadata


def export_data(cells: Iterable[Cell], results: Path, store: Store) -> None:
    """Write the files of every data set that is prepared, unless they are there.

    Raises:
        StoreError: The results folder cannot be written.
    """
    for dataset, cell in {cell.dataset: cell for cell in cells}.items():
        stage, folder = cell.score.rank.data, results / "data" / dataset
        if _is_made_from(folder, stage.key) or not store.intact(stage):
            continue
        data = stage.load(store)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(results / ".lock"):
                _write(folder / "rows.parquet", _rows(data), stage.key)
                _write(folder / "items.parquet", _items(data), stage.key)
        except OSError as e:
            raise unwritable(folder, e) from e


def _is_made_from(folder: Path, key: str) -> bool:
    """Tell whether the last file written is there and made from this data."""
    try:
        return (pq.read_schema(folder / "items.parquet").metadata or {}).get(_MADE_FROM) == key.encode()
    except (OSError, pa.ArrowException):
        return False


def _items(data: Dataset) -> pa.Table:
    """The catalogue in its order, [N]."""
    reference = Reference.of(data)
    frame = pd.DataFrame(
        {
            "item_id": data.items["item_id"].astype(str),
            "title": data.items["title"].astype(str),
            "group": reference.group_of[reference.title_of].astype("int8"),
            "frequency": reference.item_frequency,
        }
    )
    return pa.Table.from_pandas(frame, preserve_index=False)


def _rows(data: Dataset) -> pa.Table:
    """The test rows in their order, [U]."""
    test: Examples = data.test
    ids = pa.array(data.items["item_id"].astype(str))
    return pa.table(
        {
            "user_id": pa.array(pd.Series(data.test_ids())),
            "history": pa.ListArray.from_arrays(pa.array(test.offsets, pa.int32()), ids.take(pa.array(test.values))),
            "target": ids.take(pa.array(test.target)),
        }
    )


def _write(path: Path, table: pa.Table, key: str) -> None:
    temporary = path.with_name(f".{path.name}")
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), _MADE_FROM: key.encode()}), temporary
    )
    temporary.replace(path)
