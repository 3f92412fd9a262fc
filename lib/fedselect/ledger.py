"""What a round of Federated Select costs, by who computes the slices, and who sees the keys.

The three implementations of section 3 of Charles et al. (2022), counted by arithmetic: nothing is
sent. A round has N clients; client n selects m_n of K slices and gets a shared part besides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

IMPLEMENTATIONS = {"broadcast": "nobody", "on_demand": "the server", "pregenerated": "the cache"}
AGGREGATIONS = ("dense", "sparse")


class Ledger(NamedTuple):
    """One round of all clients together; bytes unless said otherwise."""

    bytes_down: int  # from the server, or its cache, to the clients
    bytes_up: int  # updates, without keys
    key_bytes: int  # keys on their way up, to ask for slices
    psi_calls: int  # slices that the server computes
    slices_repeated: int  # of these, computed more than once
    slices_wasted: int  # of these, asked for by nobody
    client_bytes: float  # of the model that the average client holds
    who_sees_keys: str  # of those that serve slices; sparse updates show keys to the aggregator


def ledger(
    implementation: str,
    keys_per_client: Integer[np.ndarray, " N"],
    *,
    space: int,
    distinct: int,
    slice_bytes: int,
    shared_bytes: int = 0,
    key_bytes: int = 4,
    aggregation: str = "sparse",
) -> Ledger:
    """Count one round: "broadcast", "on_demand" or "pregenerated" (section 3).

    "broadcast": every client gets all `space` = K slices and keeps those it wants. "on_demand":
    the server computes each slice when it is asked for. "pregenerated": the server puts all K
    slices into a cache before the round. `distinct` keys are asked for by one client at least.
    Updates go up "dense", as large as the whole model, or "sparse", as pairs of key and slice;
    after a broadcast they may be either, too.

    Raises ValueError for an unknown `implementation` or `aggregation`, and for counts of keys that
    contradict each other.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation={implementation!r}: use one of {', '.join(IMPLEMENTATIONS)}"
        )
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation={aggregation!r}: use one of {', '.join(AGGREGATIONS)}")
    clients, asked = len(keys_per_client), int(np.sum(keys_per_client))
    if not min(asked, 1) <= distinct <= min(space, asked):
        raise ValueError(
            f"distinct={distinct} keys do not fit {asked} keys asked for, of space={space}: count "
            "them with distinct()"
        )
    whole = space * slice_bytes + shared_bytes
    sent = asked * slice_bytes + clients * shared_bytes
    computed = {"broadcast": 0, "on_demand": asked, "pregenerated": space}[implementation]
    everything = implementation == "broadcast"
    return Ledger(
        bytes_down=clients * whole if everything else sent,
        bytes_up=clients * whole if aggregation == "dense" else sent + asked * key_bytes,
        key_bytes=0 if everything else asked * key_bytes,
        psi_calls=computed,
        slices_repeated=asked - distinct if implementation == "on_demand" else 0,
        slices_wasted=space - distinct if implementation == "pregenerated" else 0,
        client_bytes=float(whole) if everything else sent / max(clients, 1),
        who_sees_keys=IMPLEMENTATIONS[implementation],
    )
