"""The one moment in which libvirt itself would let a VM run twice, and how it is kept from it.

At the end of a move the client asks the target to start the VM (Finish) and then tells the source
how that went (Confirm). If the answer is lost, libvirt's client tells the source that it failed,
and the source runs again beside the target (its own source says so where it does it, and leaves it
to lock managers; measured: twice for as long as the target was out of reach). libvirt reports the
lost connection in the very thread that is about to tell the source so; while that thread is held,
the source stands still.
"""

from __future__ import annotations

from twinship.clock import Clock
from twinship.hypervisor import vms
from twinship.hypervisor.connection import Connection
from twinship.migrate.observe import side_of
from twinship.migrate.reconcile import Side
from twinship.model.errors import HostUnreachable, TwinshipError

LOOK_EVERY_S = 0.3
STANDS_STILL_S = 40.0
"""A half whose client is gone is ended by its host's libvirtd, at the latest when keepalive tells
it (5 s x (5+1) by default), unless its start is under way; only after that it is ended here."""


def hold_source(source: Connection, target: Connection, uuid: str, clock: Clock) -> None:
    """Returns once the source may be told that the target does not run the VM.

    If the target has it, the source's half is ended first, so that there is nothing left to run
    again. While the target cannot be seen this waits; if the process ends meanwhile, the source
    stays paused, and whoever settles the operation decides by the same rules. Never raises.
    """
    held_since: float | None = None
    while True:
        try:
            if _side(source, uuid) is not Side.HELD:
                return  # it was an earlier call that got no answer: the source never stopped
            match _side(target, uuid):
                case Side.ABSENT:
                    return
                case Side.OFF if _never_ran(target, uuid):
                    return
                case Side.OFF | Side.SERVING:
                    _end(source, uuid)
                    return
                case Side.HELD:
                    now = clock.monotonic()
                    held_since = now if held_since is None else held_since
                    if now - held_since > STANDS_STILL_S:
                        _end(target, uuid)
        except TwinshipError:
            held_since = None
        clock.wait(LOOK_EVERY_S)


def _side(host: Connection, uuid: str) -> Side:
    try:
        with host.another() as fresh:
            return side_of(vms.state(fresh, uuid), was_paused=False)
    except HostUnreachable:
        return Side.UNSEEN


def _never_ran(host: Connection, uuid: str) -> bool:
    with host.another() as fresh:
        return vms.failed_to_start(fresh, uuid)


def _end(host: Connection, uuid: str) -> None:
    with host.another() as fresh:
        vms.destroy(fresh, uuid)
