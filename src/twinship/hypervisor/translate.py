"""What libvirt's errors mean, as a table: code, our class, our code, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from twinship.model.errors import Gone, HostUnreachable, HypervisorError

_UNREACHABLE_HINT = "see whether libvirtd runs there and the way to it is open: twinship host check"

_TABLE: dict[int, tuple[type[HypervisorError], str, str]] = {
    libvirt.VIR_ERR_RPC: (HostUnreachable, "HOST_UNREACHABLE", _UNREACHABLE_HINT),
    libvirt.VIR_ERR_NO_CONNECT: (HostUnreachable, "HOST_UNREACHABLE", _UNREACHABLE_HINT),
    libvirt.VIR_ERR_INVALID_CONN: (HostUnreachable, "HOST_UNREACHABLE", _UNREACHABLE_HINT),
    libvirt.VIR_ERR_AUTH_FAILED: (
        HostUnreachable,
        "HOST_AUTH",
        "let this user log in there without a password (ssh-copy-id), or add it to group libvirt",
    ),
    libvirt.VIR_ERR_AUTH_CANCELLED: (
        HostUnreachable,
        "HOST_AUTH",
        "the host asks for a password; use a URI that needs none",
    ),
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: (
        HostUnreachable,
        "HOST_AUTH",
        "run as a user libvirt lets in (root, or a member of group libvirt)",
    ),
    libvirt.VIR_ERR_NO_DOMAIN: (Gone, "VM_NOT_FOUND", ""),
    libvirt.VIR_ERR_NO_STORAGE_POOL: (Gone, "STORAGE_POOL_MISSING", ""),
    libvirt.VIR_ERR_NO_STORAGE_VOL: (Gone, "VOLUME_NOT_FOUND", ""),
    libvirt.VIR_ERR_NO_NETWORK: (Gone, "NETWORK_MISSING", ""),
    libvirt.VIR_ERR_STORAGE_VOL_EXIST: (
        HypervisorError,
        "VOLUME_EXISTS",
        "choose another name or pool, or delete the volume that is there",
    ),
    libvirt.VIR_ERR_OPERATION_TIMEOUT: (
        HypervisorError,
        "VM_BUSY",
        "another job holds the VM; wait for it or see virsh domjobinfo",
    ),
    libvirt.VIR_ERR_OPERATION_ABORTED: (HypervisorError, "JOB_ABORTED", ""),
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: (
        HypervisorError,
        "AGENT_SILENT",
        "start qemu-guest-agent in the guest",
    ),
    libvirt.VIR_ERR_OPERATION_DENIED: (
        HypervisorError,
        "HOST_DENIED",
        "connect with rights to change things (not read-only)",
    ),
}

_DISK_FAILED = "migration of disk"
"""libvirt's words for a mirror that QEMU gave up, the reason behind them."""
_NO_SPACE = ("No space left on device", "not enough space", "Not enough space")
_SYSTEM_UNREACHABLE = (
    "Failed to connect socket",
    "Cannot recv data",
    "Cannot write data",
    "unable to connect to server",
    "client socket is closed",
    "End of file while reading data",
    "Connection reset by peer",
    "Broken pipe",
)


def translated(error: libvirt.libvirtError, doing: str) -> HypervisorError:
    """Our error for libvirt's, saying what was being done; libvirt's text becomes the cause."""
    code, text = error.get_error_code(), str(error.get_error_message() or error)
    if any(words in text for words in _NO_SPACE):
        return HypervisorError(
            f"cannot {doing}: the storage is full",
            code="STORAGE_FULL",
            cause=text,
            hint="free space there or choose another pool (--pool)",
        )
    if _DISK_FAILED in text and "Input/output error" in text:
        return HypervisorError(
            f"cannot {doing}: a disk could not be read or written",
            code="COPY_FAILED",
            cause=text,
            hint="see the kernel's log (dmesg) and QEMU's (/var/log/libvirt/qemu) on both hosts; a "
            "disk with bad sectors can be saved with ddrescue while the VM is off",
        )
    if code == libvirt.VIR_ERR_SYSTEM_ERROR and any(w in text for w in _SYSTEM_UNREACHABLE):
        code = libvirt.VIR_ERR_RPC
    if code == libvirt.VIR_ERR_INTERNAL_ERROR and "client socket is closed" in text:
        code = libvirt.VIR_ERR_RPC
    kind, name, hint = _TABLE.get(code, (HypervisorError, "HYPERVISOR", ""))
    return kind(f"cannot {doing}", code=name, cause=text, hint=hint)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Names what is being done with libvirt, so that a failure can say it."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise translated(error, what) from error
