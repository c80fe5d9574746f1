"""Mends what is certain, each looked at once more right before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twinship.doctor.census import Seen, look_at
from twinship.hypervisor import pools, vms, volumes
from twinship.inventory.inventory import Inventory
from twinship.migrate.reconcile import Side
from twinship.model.diagnosis import Ailment, Diagnosis
from twinship.model.errors import TwinshipError
from twinship.model.operation import Operation, OperationState
from twinship.store.operations import OperationStore

Resume = Callable[[str], Operation]


class Mender:
    """Has a way for every code of the table that can be certain."""

    def __init__(self, inventory: Inventory, store: OperationStore, resume: Resume) -> None:
        self._inventory = inventory
        self._store = store
        self._ways: dict[str, Callable[[Ailment], bool]] = {
            "VM_TWICE": self._undefine,
            "VM_HELD": self._end_half,
            "CARRIER_LEFT": self._end_carrier,
            "VOLUME_LEFT": self._delete,
            "POOL_LEFT": self._close,
            "TOKEN_LEFT": self._drop_token,
            "CLAIM_STALE": self._give_back,
            "OPERATION_UNSETTLED": self._look_again,
            "OPERATION_LEFT": self._look_again,
        }
        self._resume = resume

    def mend(self, diagnosis: Diagnosis) -> Diagnosis:
        """The diagnosis with what became of each; an error leaves one as it is, and says so."""
        return replace(diagnosis, ailments=tuple(self._try(one) for one in diagnosis.ailments))

    def _try(self, ailment: Ailment) -> Ailment:
        if not ailment.certain:
            return ailment
        try:
            return replace(ailment, mended=self._ways[ailment.code](ailment))
        except TwinshipError as error:
            why = error.cause or error.message
            return replace(ailment, mended=False, message=f"{ailment.message} ({why})")

    def _undefine(self, ailment: Ailment) -> bool:
        connection = self._inventory.connection(ailment.host)
        found = vms.state(connection, ailment.facts["uuid"])
        if found is None or found[0].active:
            return found is None
        serves = self._serves(ailment)
        if serves is None or not serves.persistent:
            return False
        return vms.undefine(connection, ailment.facts["uuid"])

    def _end_half(self, ailment: Ailment) -> bool:
        connection, uuid = self._inventory.connection(ailment.host), ailment.facts["uuid"]
        held = [seen for seen in look_at(connection) if seen.uuid == uuid]
        if not held or held[0].side is not Side.HELD or held[0].has_job:
            return False
        serves = self._serves(ailment)
        if serves is None:
            return False
        vms.destroy(connection, uuid)
        if serves.persistent:  # else this definition is the only one there is
            vms.undefine(connection, uuid)
        return True

    def _serves(self, ailment: Ailment) -> Seen | None:
        """The other copy, if it still runs, without a job."""
        for seen in look_at(self._inventory.connection(ailment.facts["serves"])):
            if seen.uuid == ailment.facts["uuid"] and seen.side is Side.SERVING:
                return None if seen.has_job else seen
        return None

    def _end_carrier(self, ailment: Ailment) -> bool:
        connection = self._inventory.connection(ailment.host)
        for seen in look_at(connection):
            if seen.uuid == ailment.facts["uuid"] and seen.carrier:
                vms.destroy(connection, seen.uuid)
        return True

    def _delete(self, ailment: Ailment) -> bool:
        connection, path = self._inventory.connection(ailment.host), ailment.facts["path"]
        for vm in vms.all_vms(connection):
            disks = vms.facts(connection, vm.uuid).disks
            if any(path in (disk.path, *(x.path for x in disk.chain)) for disk in disks):
                return False
        volumes.delete(connection, path)
        return True

    def _close(self, ailment: Ailment) -> bool:
        pools.close_temporary_pool(self._inventory.connection(ailment.host), ailment.facts["pool"])
        return True

    def _drop_token(self, ailment: Ailment) -> bool:
        volumes.delete(self._inventory.connection(ailment.host), ailment.facts["path"])
        return True

    def _give_back(self, ailment: Ailment) -> bool:
        self._store.drop_claim(ailment.facts["resource"], ailment.facts["operation"])
        return True

    def _look_again(self, ailment: Ailment) -> bool:
        op = self._resume(ailment.facts["operation"])
        return op.state.ended and op.state is not OperationState.NEEDS_ATTENTION
