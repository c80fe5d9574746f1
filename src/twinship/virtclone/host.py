"""Which host of the inventory a libvirt URI means."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from twinship.model.host import HostRecord

LOCAL_URI = "qemu:///system"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def record_for(uri: str) -> HostRecord:
    """A host for a URI that was never added: always the same one, so that a later run knows it.

    This machine's system libvirt is ``local``, as everywhere else in Twinship.
    """
    if uri == LOCAL_URI:
        return HostRecord(name="local", uri=uri)
    told = urlsplit(uri)
    shown = _NOT_IN_A_NAME.sub("-", told.hostname or told.scheme).strip("-._")[:40] or "host"
    digest = hashlib.sha256(uri.encode()).hexdigest()[:8]
    return HostRecord(name=f"{shown}-{digest}", uri=uri)


def is_here(uri: str) -> bool:
    """True for a URI without a host or socket: libvirt runs on this machine, as it was found."""
    told = urlsplit(uri)
    return not told.netloc and not told.query
