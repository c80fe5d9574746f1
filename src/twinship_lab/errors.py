"""What can go wrong in the lab.

::

    LabError            something the lab tried did not work
    ├── NeedsRoot       namespaces and mounts are root's
    ├── NotReady        programs are missing, or no place or address is usable
    ├── LabBusy         another lab command works on the same state directory
    ├── Unknown         no such host or shared disk
    └── HostFailed      a host, its daemon or its relay did not come up or go away
"""

from __future__ import annotations


class LabError(Exception):
    """``message`` says what failed, ``cause`` why, ``hint`` what to do."""

    def __init__(self, message: str, *, cause: str = "", hint: str = "") -> None:
        super().__init__(f"{message}: {cause}" if cause else message)
        self.message = message
        self.cause = cause
        self.hint = hint


class NeedsRoot(LabError):
    """The caller is not root."""


class NotReady(LabError):
    """This machine or this state directory cannot hold a lab as it is."""


class LabBusy(LabError):
    """Another command holds the lab's lock."""


class Unknown(LabError):
    """No host or shared disk has this name; the hint lists those that exist."""


class HostFailed(LabError):
    """A process of the lab did not do what it was asked within its bound."""
