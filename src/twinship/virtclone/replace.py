"""``--replace``: the VM that has the name makes room, once nothing else stands in the way."""

from __future__ import annotations

from twinship.controller import Controller
from twinship.model.errors import CheckBlocked, TwinshipError, UsageError
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Finding, Plan, Severity
from twinship.model.vm import Vm

_MADE_WAY_FOR = "CLONE_NAME_TAKEN"
_ENDED_FIRST = "VM_ACTIVE"


class Replacement:
    """The VM to be replaced, if there is one. Its disks and firmware variables stay."""

    def __init__(self, controller: Controller, host: str, name: str, source_uuid: str) -> None:
        self._controller = controller
        (answer,) = controller.vm_list(host)
        self._old: Vm | None = next((vm for vm in answer.vms if vm.name == name), None)
        self._source_uuid = source_uuid

    def check(self, plan: Plan) -> None:
        """Raises what would keep the clone or the removal of the old VM from being done."""
        _refuse(plan.title, plan.checks, besides=_MADE_WAY_FOR)
        if self._old is None:
            return
        if self._old.uuid == self._source_uuid:
            raise UsageError("a VM cannot be replaced by its own clone", hint="--name NAME")
        removal = self._controller.vm_delete_plan(self._label(), disks=False)
        _refuse(removal.title, removal.checks, besides=_ENDED_FIRST)

    def do(self) -> None:
        """Ends and undefines it."""
        if self._old is None:
            return
        if self._old.state.active:
            _succeeded(self._controller.vm_stop(self._label(), force=True))
        if self._old.persistent:
            _succeeded(self._controller.vm_delete(self._label(), disks=False))

    def _label(self) -> str:
        assert self._old is not None
        return f"{self._old.host}/{self._old.uuid}"


def _refuse(title: str, checks: tuple[Finding, ...], *, besides: str) -> None:
    blocks = [c for c in checks if c.severity is Severity.BLOCK and c.code != besides]
    if blocks:
        raise CheckBlocked(
            f"cannot {title}",
            code=blocks[0].code,
            cause="; ".join(block.message for block in blocks),
            hint=blocks[0].hint,
        )


def _succeeded(operation: Operation) -> None:
    if operation.state is OperationState.SUCCEEDED:
        return
    error = operation.error or {}
    raise TwinshipError(
        str(error.get("message") or f"cannot {operation.title}"),
        code=str(error.get("code") or "FAILED"),
        cause=str(error.get("cause") or operation.waiting_for),
        hint=str(error.get("hint") or ""),
    )
