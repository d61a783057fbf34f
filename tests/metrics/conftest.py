"""A data set small enough to count by hand."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from rlrecbench.data.frame import Dataset, Examples

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """Return a function that makes a leave-one-out data set from titles, training histories and targets."""

    def make(
        titles: Sequence[str],
        histories: Sequence[Sequence[int]],
        targets: Sequence[int],
        item_ids: Sequence[str] | None = None,
        protocol: str = "leave-one-out",
    ) -> Dataset:
        n, U = len(titles), len(targets)
        ids = [f"i{i}" for i in range(n)] if item_ids is None else list(item_ids)
        rows = list(range(U))
        train = Examples.make([0] * len(histories), [np.asarray(h) for h in histories], [0] * len(histories))
        test = Examples.make(rows, [np.zeros(1) for _ in rows], list(targets))
        return Dataset(
            name="toy",
            protocol=protocol,
            items=pd.DataFrame({"item_id": ids, "title": list(titles), "text": list(titles)}),
            users=np.array([f"u{u}" for u in rows]),
            train=train,
            valid=test,
            test=test,
            settings={},
            checksum="",
        )

    return make
