"""Which of libvirt's secrets a definition names: encrypted disks, network storage, a TPM's state.

::

    <encryption format='luks'><secret type='passphrase' uuid='…'/></encryption>
    <auth username='libvirt'><secret type='ceph' usage='ceph_cluster'/></auth>
    <backend type='emulator'><encryption secret='UUID'/></backend>
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from twinship.domxml.document import parse

_OWNERS = ("disk", "hostdev", "tpm")
_USAGES = {"passphrase": "volume"}
"""What a secret of this type is for, as libvirt looks it up by usage; others by their own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A secret as a definition names it: by UUID, else by what it is for. ``what`` needs it."""

    what: str
    uuid: str = ""
    kind: str = ""
    usage: str = ""

    @property
    def spoken(self) -> str:
        """The secret in words."""
        return self.uuid or f"for {self.kind} {self.usage!r}"


def secret_refs(text: str) -> tuple[SecretRef, ...]:
    """Every secret that a definition names, each once, in its order."""
    found: dict[tuple[str, str, str], SecretRef] = {}
    for device in parse(text).iterfind("devices/*"):
        if device.tag not in _OWNERS:
            continue
        what = _what(device)
        for element in device.iter("secret", "encryption"):
            ref = _ref(element, what)
            if ref.uuid or ref.usage:
                found.setdefault((ref.uuid, ref.kind, ref.usage), ref)
    return tuple(found.values())


def _ref(element: etree._Element, what: str) -> SecretRef:
    if element.tag == "encryption":
        return SecretRef(what=what, uuid=element.get("secret", ""))
    if uuid := element.get("uuid", ""):
        return SecretRef(what=what, uuid=uuid)
    kind = element.get("type", "")
    return SecretRef(what=what, kind=_USAGES.get(kind, kind), usage=element.get("usage", ""))


def _what(device: etree._Element) -> str:
    target = device.find("target")
    if device.tag == "disk" and target is not None:
        return f"disk {target.get('dev', '')}"
    return {"tpm": "the TPM"}.get(str(device.tag), "a host device")
