"""Sealing, and templates: a part of :class:`twinship.Controller`."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twinship.domxml.sealed import sealed_of
from twinship.domxml.template import template_of
from twinship.hypervisor import vms
from twinship.inventory.inventory import Inventory
from twinship.lifecycle.gather import delete_case
from twinship.lifecycle.plan import plan_delete
from twinship.model.errors import NotFound, TwinshipError, UsageError
from twinship.model.operation import Operation
from twinship.model.plan import Plan
from twinship.model.request import SealRequest, TemplateRequest
from twinship.operations.job import Watch
from twinship.operations.runner import Runner
from twinship.planning.binding import changed
from twinship.template.versions import TemplateVersion, versions_on

if TYPE_CHECKING:
    from twinship.seal.undo import UndoCase


class Workshop:
    """What is done to guests' disks from outside."""

    inventory: Inventory
    _runner: Runner

    def _begin(self) -> None:
        raise NotImplementedError

    # Seal

    def seal_plan(self, request: SealRequest, *, thorough: bool = True) -> Plan:
        """What sealing VMs in place would do, path by path; nothing is written.

        Not ``thorough``: where the guest can be read by an appliance only, it is not started.
        """
        from twinship.seal.gather import gather
        from twinship.seal.plan import plan_seal_vms

        found = [self.inventory.find(name) for name in request.vms]
        wanted = list(dict.fromkeys((vm.host, vm.uuid) for vm in found))
        if not wanted:
            raise UsageError("which VM is to be sealed?")
        facts = gather(self.inventory, wanted, request.choice, thorough=thorough)
        return plan_seal_vms(facts, request, secrets.token_hex(4))

    def seal(
        self, request: SealRequest, *, wait: bool = True, watch: Watch | None = None
    ) -> Operation:
        """Seals VMs in place, all or none. Raises :class:`CheckBlocked` when a check blocks."""
        self._begin()
        return self._runner.run(self.seal_plan(request, thorough=False), watch, wait=wait)

    def unseal_plan(self, name: str) -> Plan:
        """What undoing a VM's seal would do."""
        from twinship.seal.undo import plan_unseal

        return plan_unseal(self._undo_case(name))

    def unseal(self, name: str, *, watch: Watch | None = None) -> Operation:
        """Makes a sealed VM's disks what they were."""
        self._begin()
        return self._runner.run(self.unseal_plan(name), watch)

    def keep_seal_plan(self, name: str) -> Plan:
        """What keeping a VM's seal for good would do."""
        from twinship.seal.undo import plan_keep

        return plan_keep(self._undo_case(name))

    def keep_seal(self, name: str, *, watch: Watch | None = None) -> Operation:
        """Deletes what a VM's seal could be undone with."""
        self._begin()
        return self._runner.run(self.keep_seal_plan(name), watch)

    def seal_pending(self, name: str) -> bool:
        """Whether a VM's seal can still be undone, or kept."""
        vm = self.inventory.find(name)
        sealed = sealed_of(vms.stored_xml(self.inventory.connection(vm.host), vm.uuid))
        return sealed is not None and bool(sealed.undo)

    # Templates

    def template_plan(self, request: TemplateRequest, *, thorough: bool = True) -> Plan:
        """What making a template would do."""
        from twinship.clone.ids import new_ids
        from twinship.template.gather import gather
        from twinship.template.plan import plan_template

        if not request.name.strip():
            raise UsageError("a template has to have a name", code="TEMPLATE_NAME_INVALID")
        vm = self.inventory.find(request.vm)
        facts = gather(self.inventory, vm.host, vm.uuid, request, thorough=thorough)
        return plan_template(facts, request, new_ids(len(facts.clone.summary.nics)))

    def template_create(
        self, request: TemplateRequest, *, wait: bool = True, watch: Watch | None = None
    ) -> Operation:
        """Makes a template of a VM, whose disks are only read."""
        self._begin()
        return self._runner.run(self.template_plan(request, thorough=False), watch, wait=wait)

    def template_list(
        self, host: str | None = None
    ) -> tuple[tuple[TemplateVersion, ...], dict[str, TwinshipError]]:
        """Every version of every template, and the hosts that could not be asked."""
        if host is not None:
            self.inventory.record(host)  # raises for one that is not known
        unseen: dict[str, TwinshipError] = {}
        seen: dict[str, vms.Definitions] = {}
        for name, answer in self.inventory.ask(vms.definitions).items():
            if not isinstance(answer, TwinshipError):
                seen[name] = answer
            elif host in (None, name):
                unseen[name] = answer
        found = [one for one in versions_on(seen) if host in (None, one.host)]
        found.sort(key=lambda one: (one.template.name, one.host, one.template.version))
        return tuple(found), unseen

    def template_show(self, name: str) -> tuple[TemplateVersion, ...]:
        """The versions of a template, or the one VM of it that is named, the newest last.

        Raises :class:`NotFound`, and :class:`UsageError` for a VM that is none.
        """
        host, _, short = name.rpartition("/")
        versions, _unseen = self.template_list(host or None)
        named = tuple(one for one in versions if one.template.name == short)
        exact = tuple(one for one in versions if short in (one.vm_name, one.uuid))
        if named or exact:
            return named or exact
        try:
            vm = self.inventory.find(name)
        except NotFound as error:
            raise NotFound(
                f"no template is named {name[:80]!r}",
                code="TEMPLATE_NOT_FOUND",
                cause=error.cause,
                hint="see twinship template list",
            ) from None
        raise UsageError(
            f"{vm.label} is no template",
            code="NO_TEMPLATE",
            hint=f"make one of it: twinship template create NAME --from {vm.label}",
        )

    def template_delete_plan(self, name: str) -> Plan:
        """What deleting a version of a template, and its disks, would do.

        ``name`` is its VM's: the newest version has the template's own.
        """
        vm = self.inventory.find(name)
        case = delete_case(self.inventory, vm, disks=True, template=True)
        if template_of(case.vm.xml) is None:
            raise UsageError(
                f"{vm.label} is no template",
                code="NO_TEMPLATE",
                hint=f"delete a VM: twinship vm delete {vm.label}",
            )
        return plan_delete(case)

    def template_delete(self, name: str, *, watch: Watch | None = None) -> Operation:
        """Deletes one version of a template that nothing stands on, with its disks."""
        self._begin()
        return self._runner.run(self.template_delete_plan(name), watch)

    # Inside

    def _undo_case(self, name: str) -> UndoCase:
        from twinship.seal.undo import gather_undo

        vm = self.inventory.find(name)
        return gather_undo(self.inventory, vm.host, vm.uuid)

    def _seal_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        from twinship.seal.gather import gather
        from twinship.seal.plan import asked_for, plan_seal_vms

        request = asked_for(spec)
        wanted = [(vm["host"], vm["uuid"]) for vm in spec["vms"]]
        facts = gather(self.inventory, wanted, request.choice, thorough=False, looking=False)
        return changed(spec["binding"], plan_seal_vms(facts, request, "").binding)

    def _template_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        from twinship.template.plan import asked_for

        # What is in the guest is not looked at again: the copy will show.
        request = replace(asked_for(spec), seal=False)
        return changed(spec["binding"], self.template_plan(request, thorough=False).binding)
