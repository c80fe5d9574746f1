"""Real KVM hosts on one machine, each in namespaces of its own.

The public face is :class:`Lab`; it hands out :class:`LabHost` objects. Nothing
here knows the product: a lab host is reached, as any host, by its libvirt URI.
"""

from twinship_lab.daemon import DaemonAction, DaemonState
from twinship_lab.errors import HostFailed, LabBusy, LabError, NeedsRoot, NotReady, Unknown
from twinship_lab.host import LabHost, Link
from twinship_lab.lab import Lab
from twinship_lab.programs import Completed
from twinship_lab.status import HostStatus, LabStatus
from twinship_lab.storage import SharedDisk

__all__ = [
    "Completed",
    "DaemonAction",
    "DaemonState",
    "HostFailed",
    "HostStatus",
    "Lab",
    "LabBusy",
    "LabError",
    "LabHost",
    "LabStatus",
    "Link",
    "NeedsRoot",
    "NotReady",
    "SharedDisk",
    "Unknown",
]
