"""Whether one host can send to another: tried with a carrier that carries nothing."""

from __future__ import annotations

import uuid as uuids
from concurrent.futures import ThreadPoolExecutor

from twinship.clock import Clock
from twinship.domxml.carrier import Carrier, End, carrier_xml
from twinship.hypervisor import jobs, vms
from twinship.hypervisor.connection import Connection
from twinship.model.errors import HypervisorError, TwinshipError
from twinship.model.host import HostFacts, data_address, migration_uri

TIMEOUT_S = 5.0
LET_GO_S = 150.0
PORTS = "49152-49215"
_MACHINES = {
    "x86_64": "q35",
    "aarch64": "virt",
    "ppc64le": "pseries",
    "s390x": "s390-ccw-virtio",
}


def ways(
    one: Connection, here: HostFacts, other: Connection, there: HostFacts, clock: Clock
) -> tuple[str, ...]:
    """What keeps two hosts from sending to each other, both ways tried at once."""
    with ThreadPoolExecutor(2, thread_name_prefix="probe") as pool:
        tried = (
            pool.submit(lambda: way(one.mine(), here, other.mine(), there, clock)),
            pool.submit(lambda: way(other.mine(), there, one.mine(), here, clock)),
        )
        return tuple(filter(None, (future.result() for future in tried)))


def way(
    source: Connection, here: HostFacts, target: Connection, there: HostFacts, clock: Clock
) -> str:
    """What keeps ``source`` from sending to ``target``, and what to type; empty for nothing.

    A paused, transient domain of 16 MiB without a disk is moved there and ended. Takes a fraction
    of a second; where a firewall drops what comes, as long as the kernel tries to connect (two
    minutes by default), for libvirt lets go of the domain no sooner.
    """
    address = data_address(target.record, there.hostname)
    if not address:
        return (
            f"no address of {target.name} is known that other hosts could use: "
            f"twinship host remove {target.name}, then twinship host add {target.name} "
            f"{target.record.uri} --address IP"
        )
    uuid = str(uuids.uuid4())
    carrier = Carrier(
        name=f"twinship-carrier-{uuid[:8]}",
        uuid=uuid,
        domain_type="qemu" if "qemu" in here.domain_types else "kvm",
        arch=here.arch,
        machine=_MACHINES.get(here.arch, "virt"),
    )
    try:
        _send(source, target, carrier, migration_uri(address), clock)
    except TwinshipError as error:
        why = error.cause or error.message
        return (
            f"{source.name} cannot send to {target.name} at {address} ({why}): is TCP {PORTS} "
            f"open there? firewall-cmd --permanent --add-port={PORTS}/tcp && "
            "firewall-cmd --reload"
        )
    return ""


def _send(source: Connection, target: Connection, carrier: Carrier, uri: str, clock: Clock) -> None:
    try:
        vms.start_transient(source, carrier_xml(carrier, (), End.SOURCE), dies_with_us=False)
        order = jobs.MoveOrder(
            uri=uri,
            # The machine type as the source has resolved it: its own alias may mean another there.
            xml=vms.migratable_xml(source, carrier.uuid),
            persistent_xml="",
            name=carrier.name,
            persist=False,
            paused=True,
        )
        move = jobs.Move(source, target, carrier.uuid, order)
        deadline = clock.monotonic() + TIMEOUT_S
        while not move.wait(0.05):
            if clock.monotonic() > deadline:
                raise TwinshipError("no answer", cause=f"no answer within {TIMEOUT_S:g} s")
        move.finish()
    finally:
        for end in (target, source):
            _end(end, carrier.uuid, clock)


def _end(end: Connection, uuid: str, clock: Clock) -> None:
    deadline = clock.monotonic() + LET_GO_S
    while True:
        try:
            vms.destroy(end, uuid)
        except HypervisorError:
            if clock.monotonic() > deadline:
                raise
            clock.wait(1.0)
        else:
            return
