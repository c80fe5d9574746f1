"""Secrets as a host's libvirt lists them; their values are never read."""

from __future__ import annotations

from dataclasses import dataclass

import libvirt

from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret: its UUID, and what it is for (``volume`` and the path, ``ceph`` and a name)."""

    uuid: str
    kind: str
    usage: str


_KINDS = {
    libvirt.VIR_SECRET_USAGE_TYPE_VOLUME: "volume",
    libvirt.VIR_SECRET_USAGE_TYPE_CEPH: "ceph",
    libvirt.VIR_SECRET_USAGE_TYPE_ISCSI: "iscsi",
    libvirt.VIR_SECRET_USAGE_TYPE_TLS: "tls",
    libvirt.VIR_SECRET_USAGE_TYPE_VTPM: "vtpm",
}


def listed(connection: Connection) -> tuple[Secret, ...]:
    """Every secret of the host, in one call."""
    with doing(f"list the secrets of {connection.name}"):
        return tuple(
            Secret(
                uuid=secret.UUIDString(),
                kind=_KINDS.get(secret.usageType(), ""),
                usage=secret.usageID() or "",
            )
            for secret in connection.raw.listAllSecrets(0)
        )
