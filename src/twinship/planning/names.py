"""Names of VMs: what is allowed, and free ones.

libvirt itself forbids only ``/``, a leading ``.``, and newlines (virXMLCheckIllegalChars, since
2.x); a VM's name also becomes part of file names on the host, hence the length.
"""

from __future__ import annotations

import re
import unicodedata
import uuid as uuids
from collections.abc import Container

MAX_BYTES = 200
"""Leaves room for a suffix below the 255 bytes of a file name."""

_NUMBERED = re.compile(r"^(.*-clone)(?:-(\d+))?$")


def problem(name: str) -> str:
    """Why this cannot be the name of a new VM; empty when it can."""
    if not name or not name.strip():
        return "it is empty"
    if name != name.strip():
        return "it begins or ends with a space"
    if "/" in name:
        return "it contains a slash"
    if name.startswith("."):
        return "it begins with a dot"
    if name.startswith("-"):
        return "it begins with a dash"
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in name):
        return "it contains a control character"
    if "\ufffe" in name or "\uffff" in name:
        return "it contains a character that XML has no place for"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    return ""


def canonical_uuid(text: str) -> str:
    """A UUID as libvirt writes it, however it was written; what is none stays as it is."""
    try:
        return str(uuids.UUID(text))
    except ValueError:
        return text


def free_clone_name(source: str, taken: Container[str]) -> str:
    """The first free of ``X-clone``, ``X-clone-2``, ...; a clone of a clone counts on."""
    match = _NUMBERED.match(source)
    base = match.group(1) if match else f"{source}-clone"
    number = int(match.group(2) or 1) + 1 if match else 1
    while True:
        name = base if number == 1 else f"{base}-{number}"
        if name not in taken:
            return name
        number += 1


def file_name(vm: str, target: str, suffix: str, taken: Container[str], *, alone: bool) -> str:
    """A free name for a VM's disk file: ``VM.qcow2``, or ``VM-vdb.qcow2`` when it has several."""
    stem = vm if alone else f"{vm}-{target}"
    number = 1
    while True:
        name = f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if name not in taken:
            return name
        number += 1


def tpm_directory(uuid: str, version: str) -> str:
    """Where libvirt keeps the state of a VM's emulated TPM; ``version`` is ``2.0`` or ``1.2``.

    Source: libvirt 9.0's qemuTPMEmulatorStorageBuildPath.
    """
    return f"/var/lib/libvirt/swtpm/{uuid}/{'tpm1.2' if version == '1.2' else 'tpm2'}"
