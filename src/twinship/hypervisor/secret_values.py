"""libvirt's secrets: what opens an encrypted disk, or logs in to network storage.

A value is handed from host to host and nowhere else: not into a log, a plan, or the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import libvirt

from twinship.domxml.secrets import SecretRef
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing, translated
from twinship.model.errors import Gone

_USAGES = {
    "volume": libvirt.VIR_SECRET_USAGE_TYPE_VOLUME,
    "ceph": libvirt.VIR_SECRET_USAGE_TYPE_CEPH,
    "iscsi": libvirt.VIR_SECRET_USAGE_TYPE_ISCSI,
    "tls": libvirt.VIR_SECRET_USAGE_TYPE_TLS,
    "vtpm": libvirt.VIR_SECRET_USAGE_TYPE_VTPM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret of a host. ``value`` is None for one without; ``private``: no one is told it."""

    uuid: str
    xml: str
    value: bytes | None = field(default=None, repr=False)
    private: bool = False


def find(connection: Connection, ref: SecretRef) -> Secret | None:
    """The secret a definition means; None where the host has no such."""
    found = _lookup(connection, ref)
    if found is None:
        return None
    with doing(f"read a secret of {connection.name}"):
        uuid, xml = str(found.UUIDString()), str(found.XMLDesc(0))
    try:
        return Secret(uuid=uuid, xml=xml, value=bytes(found.value(0)))
    except libvirt.libvirtError as error:
        match error.get_error_code():
            case libvirt.VIR_ERR_NO_SECRET:
                return Secret(uuid=uuid, xml=xml)
            case libvirt.VIR_ERR_INVALID_SECRET:
                return Secret(uuid=uuid, xml=xml, private=True)
        raise translated(error, f"read secret {uuid} of {connection.name}") from error


def put(connection: Connection, secret: Secret) -> None:
    """Defines a secret (again) and gives it its value."""
    if secret.value is None:
        raise Gone(f"secret {secret.uuid} has no value", code="SECRET_EMPTY")
    with doing(f"define secret {secret.uuid} on {connection.name}"):
        connection.raw.secretDefineXML(secret.xml, 0).setValue(secret.value, 0)


def define(connection: Connection, xml: str) -> None:
    """Defines a secret without a value."""
    with doing(f"define a secret on {connection.name}"):
        connection.raw.secretDefineXML(xml, 0)


def remove(connection: Connection, uuid: str) -> bool:
    """Removes a secret; False when there was none."""
    try:
        connection.raw.secretLookupByUUIDString(uuid).undefine()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return False
        raise translated(error, f"remove secret {uuid} of {connection.name}") from error
    return True


def _lookup(connection: Connection, ref: SecretRef) -> Any | None:
    try:
        if ref.uuid:
            return connection.raw.secretLookupByUUIDString(ref.uuid)
        kind = _USAGES.get(ref.kind, libvirt.VIR_SECRET_USAGE_TYPE_NONE)
        return connection.raw.secretLookupByUsage(kind, ref.usage)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return None
        raise translated(error, f"look for a secret on {connection.name}") from error
