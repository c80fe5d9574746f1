"""What sealing came to: as the journal and the result have it, and as the definition's mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinship.domxml.lineage import Base
from twinship.domxml.sealed import Done as Told
from twinship.domxml.sealed import Sealed
from twinship.seal.work import Done


def document(done: Done) -> dict[str, Any]:
    """The outcome as plain values, with every path."""
    guest = done.guest
    return {
        "engine": done.engine,
        "guest": {
            "name": guest.name,
            "id": guest.id,
            "version": guest.version,
            "systemd": guest.systemd,
            "cloud_init": guest.cloud_init,
        },
        "manifest": dict(done.manifest.to_json()),
        "bytes_written": done.bytes_written,
    }


def mark(
    outcome: Mapping[str, Any], at: str, undo: Mapping[str, str], disks: Sequence[Base]
) -> Sealed:
    """The mark of a VM that was sealed."""
    guest, manifest = outcome["guest"], outcome["manifest"]
    paths: dict[str, list[str]] = {}
    for entry in manifest["entries"]:
        paths.setdefault(entry["operation"], []).append(entry["path"])
    return Sealed(
        at=at,
        guest=guest["name"],
        id=guest["id"],
        version=guest["version"],
        systemd=guest["systemd"],
        cloud_init=guest["cloud_init"],
        done=tuple(
            Told(
                name=total["operation"],
                paths=total["paths"],
                bytes=total["freed_bytes"],
                listed=tuple(paths.get(total["operation"], ())),
            )
            for total in manifest["totals"]
        ),
        undo=undo,
        disks=tuple(disks),
    )
