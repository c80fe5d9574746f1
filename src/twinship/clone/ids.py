"""Random identity for a new VM."""

from __future__ import annotations

import secrets
import uuid as uuids

from twinship.model.request import NewIds


def new_ids(nics: int) -> NewIds:
    """Fresh values for a VM with that many interfaces. MACs are of QEMU's range, 52:54:00."""
    return NewIds(
        uuid=str(uuids.uuid4()),
        genid=str(uuids.uuid4()),
        macs=tuple(
            "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
            for _ in range(nics)
        ),
        carrier=str(uuids.uuid4()),
    )
