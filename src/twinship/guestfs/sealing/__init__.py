"""Sealing: removing from a guest's files what tells it from another guest.

::

    with opened([an_image(path, "qcow2")], writable=True) as files:
        guest = identify(files)
        manifest = apply_seal(files, guest, choose(except_=["logs"]))
"""

from twinship.guestfs.sealing.manifest import Action, Entry, Manifest, Note
from twinship.guestfs.sealing.operation import Operation
from twinship.guestfs.sealing.own import load_own, needs_appliance
from twinship.guestfs.sealing.table import TABLE, choose
from twinship.guestfs.sealing.work import apply_seal, plan_seal

__all__ = [
    "TABLE",
    "Action",
    "Entry",
    "Manifest",
    "Note",
    "Operation",
    "apply_seal",
    "choose",
    "load_own",
    "needs_appliance",
    "plan_seal",
]
