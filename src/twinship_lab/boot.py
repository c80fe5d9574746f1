"""Bringing one host up, whatever of it is there already."""

from __future__ import annotations

import sys
from collections.abc import Callable

from twinship_lab import inside, network
from twinship_lab.control import set_control, start_relay
from twinship_lab.daemon import DaemonAction, DaemonState
from twinship_lab.errors import HostFailed
from twinship_lab.host import LabHost
from twinship_lab.hostfiles import HostIdentity, write_host_files
from twinship_lab.programs import spawn, wait_until
from twinship_lab.state import HostRecord, host_uuid

_INIT_WITHIN_S = 15


def prepare_host(host: LabHost) -> None:
    """The files of a host that is down; those of a running one are left alone."""
    if host.init() is None:
        uuid = host_uuid(host.lab_root, host.name)
        write_host_files(host.root, HostIdentity(host.name, uuid, host.address))


def boot_host(host: LabHost, record: HostRecord, say: Callable[[str], None]) -> None:
    """Make sure the host runs, is wired and answers through the control link.

    A frozen daemon is thawed, cut links are mended, a set rate is set again:
    after this the host is as good as new, its guests untouched.
    """
    network.ensure_namespace(host.namespace)
    network.ensure_cable(host.fabric, host.name, host.namespace, host.address)
    network.shape(host.fabric, host.name, host.namespace, record.rate_bytes_s)
    _ensure_init(host)
    match host.daemon_state():
        case DaemonState.STOPPED:
            host.daemon(DaemonAction.START)
            say(f"{host.name}: libvirtd answers at {host.address}")
        case DaemonState.FROZEN:
            host.daemon(DaemonAction.THAW)
            say(f"{host.name}: libvirtd thawed")
        case DaemonState.RUNNING:
            pass
    start_relay(host.fabric, host.socket, host.outside("/run/libvirt/libvirt-sock"))
    set_control(host.fabric, host.socket, up=True)


def _ensure_init(host: LabHost) -> None:
    if host.init() is not None:
        return
    net = f"--net={network.namespace_path(host.namespace)}"
    # Slave propagation: what is unmounted outside (another namespace's name) must not be kept
    # alive by our copy of the mount table.
    own = ["--mount", "--propagation", "slave", "--uts", "--pid", "--fork", "--mount-proc"]
    first = [sys.executable, "-I", "-S", inside.__file__, host.name, str(host.root)]
    log = host.root / "boot.log"
    spawn(["nsenter", net, "unshare", *own, *first], log=log)
    wait_until(lambda: host.init() is not None or log.stat().st_size > 0, within_s=_INIT_WITHIN_S)
    if host.init() is None:
        said = log.read_text(errors="replace").strip()
        raise HostFailed(f"{host.name} did not boot", cause=said or "it said nothing")
