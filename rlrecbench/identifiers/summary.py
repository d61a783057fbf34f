"""All figures about one index in one place: how codes are used, what collides, what agrees."""

from typing import Any

from rlrecbench.identifiers.agreement import Agreement
from rlrecbench.identifiers.codes import Identifiers

Json = dict[str, Any]


def summary(ids: Identifiers, agreement: Agreement | None) -> Json:
    """Put the figures about an index together.

    Args:
        ids: The codes.
        agreement: Of neighbours in histories; None where there are no pairs.

    Returns:
        :meth:`Identifiers.report`; ``collisions``, of the codes before a collision code: ``distinct`` identifiers,
        ``rate`` (1 - distinct / items), ``items`` that share theirs, the ``biggest_group`` of them; ``agreement``.
    """
    n = ids.described
    content = Identifiers(ids.codes[:, :n], ids.sizes[:n])
    bare = content.report()
    return {
        **ids.report(),
        "collisions": {
            "distinct": bare["unique"],
            "rate": content.collision_rate,
            "items": bare["colliding"],
            "biggest_group": bare["biggest_group"],
        },
        "agreement": agreement.as_json() if agreement is not None else None,
    }
