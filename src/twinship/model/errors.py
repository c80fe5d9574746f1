"""Every error Twinship raises, and the exit code each one means.

::

    TwinshipError                     1   failed and undone
    ├── UsageError                    2   the request itself is wrong
    │   └── AmbiguousName             2   several VMs answer to the name
    ├── NotFound                      3   no such VM, host, operation, volume
    ├── NotAllowed                    4   no permission
    ├── CheckBlocked                  5   a check of the plan blocks
    ├── Conflict                      6   the name is taken
    │   └── Busy                      6   another operation works on it
    ├── StillRunning                  8   the wait ended, the operation goes on
    ├── NeedsAttention                9   not undone; what is left is named
    ├── Cancelled                   130   cancelled and undone
    └── HypervisorError               1   libvirt or QEMU said no
        ├── HostUnreachable           1   the host does not answer
        └── Gone                      3   the libvirt object no longer exists

An error carries four parts: ``message`` (what could not be done), ``cause``
(why: libvirt's own words are kept here, never shown alone), ``hint`` (what to
do about it) and ``code`` (stable, for scripts and ``twinship explain``).
"""

from __future__ import annotations

from typing import ClassVar


class TwinshipError(Exception):
    """The base of all our errors."""

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "FAILED"

    def __init__(self, message: str, *, code: str = "", cause: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.cause = cause
        self.hint = hint

    def as_dict(self) -> dict[str, str | None]:
        """The error as it stands in JSON; parts without a value are null."""
        return {
            "code": self.code,
            "message": self.message,
            "cause": self.cause or None,
            "hint": self.hint or None,
        }


class UsageError(TwinshipError):
    """The request itself is wrong."""

    exit_code = 2
    default_code = "USAGE"


class AmbiguousName(UsageError):
    """Several VMs answer to the name; the hint lists them."""

    default_code = "AMBIGUOUS_NAME"


class NotFound(TwinshipError):
    """No such VM, host, operation or volume."""

    exit_code = 3
    default_code = "NOT_FOUND"


class NotAllowed(TwinshipError):
    """The caller may not do this."""

    exit_code = 4
    default_code = "NOT_ALLOWED"


class CheckBlocked(TwinshipError):
    """A check of the plan blocks, or what the plan stood on has changed."""

    exit_code = 5
    default_code = "CHECK_BLOCKED"


class Conflict(TwinshipError):
    """The name, file or address is already taken."""

    exit_code = 6
    default_code = "CONFLICT"


class Busy(Conflict):
    """Another operation works on the same VM; it is named."""

    default_code = "BUSY"

    def __init__(
        self, message: str, *, code: str = "", cause: str = "", hint: str = "", resource: str = ""
    ) -> None:
        """``resource``: what both want (``vm/UUID``, ``name/HOST/NAME``, ``file/HOST/PATH``)."""
        super().__init__(message, code=code, cause=cause, hint=hint)
        self.resource = resource


class StillRunning(TwinshipError):
    """The wait ended before the operation did."""

    exit_code = 8
    default_code = "STILL_RUNNING"


class NeedsAttention(TwinshipError):
    """The operation could not be undone; what is left is named."""

    exit_code = 9
    default_code = "NEEDS_ATTENTION"


class Cancelled(TwinshipError):
    """The operation was cancelled and undone."""

    exit_code = 130
    default_code = "CANCELLED"


class HypervisorError(TwinshipError):
    """libvirt or QEMU refused; ``cause`` holds their own words."""

    default_code = "HYPERVISOR"


class HostUnreachable(HypervisorError):
    """The host does not answer, or stopped answering."""

    default_code = "HOST_UNREACHABLE"


class Gone(HypervisorError):
    """The libvirt object (VM, volume, pool) does not exist, or no longer does."""

    exit_code = 3
    default_code = "GONE"
