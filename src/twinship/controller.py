"""The public face: one method a verb. What the command line does, it does through this.

::

    with twinship.Controller() as controller:
        plan = controller.clone_plan(CloneRequest(vm="db-1"))
        operation = controller.clone(CloneRequest(vm="db-1", name="db-2"))

Methods that change something return an :class:`Operation` that has ended (or, with ``wait=False``,
one that a worker process goes on with). An operation that failed is returned, not raised: look at
its ``state`` and ``error``. What is raised was refused before anything was touched.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from twinship.clock import Clock, SystemClock
from twinship.clone.addressing import addressed
from twinship.clone.asked import asked_for
from twinship.clone.gather import gather as gather_clone
from twinship.clone.ids import new_ids
from twinship.clone.plan import plan_clone
from twinship.config import Config, user_config
from twinship.convoy import Convoy
from twinship.domxml import read
from twinship.domxml.lineage import Kin, family
from twinship.hypervisor import agent, hosts, pools, vms, volumes
from twinship.hypervisor.connection import Connection, Connections
from twinship.inventory.inventory import Inventory
from twinship.ledger import Ledger
from twinship.lifecycle.boot import wait_boot
from twinship.lifecycle.gather import delete_case, start_case
from twinship.lifecycle.plan import plan_delete, plan_start, plan_stop
from twinship.model.diagnosis import Diagnosis
from twinship.model.errors import Busy, NotFound
from twinship.model.host import HostRecord, HostStatus
from twinship.model.operation import Operation
from twinship.model.plan import Plan
from twinship.model.request import CloneRequest
from twinship.model.vm import TickReport, Vm, VmAnswer, VmFacts
from twinship.operations.dispatch import WorkerProcess
from twinship.operations.engine import Engine
from twinship.operations.job import Watch
from twinship.operations.owner import Processes
from twinship.operations.runner import Runner
from twinship.planning.binding import changed
from twinship.store import upkeep
from twinship.store.database import Database
from twinship.store.hosts import HostStore
from twinship.store.operations import OperationStore
from twinship.verbs import registry
from twinship.workshop import Workshop

if TYPE_CHECKING:
    from twinship.inventory.sharing import Sharing

HISTORY = 40
"""How many past operations are looked at for how long a clone will take."""
NAME_TRIES = 30
"""How often a free name is looked for again that another clone was quicker to take."""


class Controller(Ledger, Workshop, Convoy):
    """Everything Twinship can do. Threads may share one; close it when done."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        clock: Clock | None = None,
        local: bool = True,
        extra_hosts: tuple[HostRecord, ...] = (),
    ) -> None:
        """``local``: count this machine's libvirt among the hosts when it answers.

        ``extra_hosts`` are known to this controller without being added to the inventory.
        """
        self.config = config or user_config()
        self._clock = clock or SystemClock()
        self._database = Database(self.config.database)
        self._connections = Connections(self.config)
        self._store = OperationStore(self._database)
        self.inventory = Inventory(
            HostStore(self._database),
            self._connections,
            self.config,
            self._clock,
            local=local,
            extra=extra_hosts,
        )
        self._engine = Engine(
            self._store,
            registry(
                self.inventory,
                {
                    "clone": self._clone_changes,
                    "clones": self._clones_changes,
                    "migrate": self._migrate_changes,
                    "seal": self._seal_changes,
                    "template": self._template_changes,
                },
                lambda: self._engine,
                stall_s=self.config.stall_s,
                limits=self.config.limits,
                link_waits_s=self.config.link_waits_s,
            ),
            self._clock,
            Processes(self._database.now, shared=self._database.shared),
            lease_s=self.config.lease_s,
            limits=self.config.limits,
        )
        self._runner = Runner(
            self._engine,
            self._store,
            self._clock,
            dispatch=WorkerProcess(self.config.state),
            patience_s=self.config.settle_patience_s,
            before_thread=self._connections.release,
        )

    def __enter__(self) -> Controller:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections and the database."""
        self._connections.close()
        self._database.close()

    # Hosts

    def host_add(self, record: HostRecord) -> HostStatus:
        """Adds a host and says whether it answers; one that does not is added all the same."""
        self.inventory.add(record)
        return self.inventory.status(record)

    def host_list(self) -> tuple[HostStatus, ...]:
        """All hosts, read in parallel."""
        return self.inventory.statuses()

    def host_show(self, name: str) -> HostStatus:
        """One host."""
        return self.inventory.status(self.inventory.record(name))

    def host_check(self, name: str, other: str) -> Sharing:
        """Which directories two hosts really share, and what moves between them lack.

        Tries both ways with something that carries nothing; leaves nothing on either.
        """
        one, two = self.inventory.connection(name), self.inventory.connection(other)
        from twinship.inventory.sharing import compare
        from twinship.transfer import probe

        found = compare(one, two)
        here, there = hosts.facts(one), hosts.facts(two)
        ways = probe.ways(one, here, two, there, self._clock)
        return replace(found, missing=(*found.missing, *ways))

    def host_of(self, uri: str) -> HostRecord:
        """The host with this libvirt URI. Raises :class:`NotFound`."""
        for record in self.inventory.records():
            if record.uri == uri:
                return record
        raise NotFound(f"no host has the URI {uri[:200]!r}", code="HOST_NOT_FOUND")

    def file_there(self, host: str, path: str) -> bool:
        """Whether a file is at this path, as far as the host's storage pools show."""
        return volumes.find(self.inventory.connection(host), path) is not None

    def file_users(self, host: str, path: str) -> tuple[str, ...]:
        """The VMs of a host that have this file for a disk."""
        defined = vms.definitions(self.inventory.connection(host))
        return tuple(
            name for name, _, text in defined if any(disk.path == path for disk in read.disks(text))
        )

    def pool_over(self, host: str, directory: str) -> str:
        """The storage pool over a directory of a host, started or made if there is none active."""
        return pools.over(self.inventory.connection(host), directory)

    def host_remove(self, name: str) -> None:
        """Forgets a host; nothing changes on it."""
        self.inventory.remove(name)

    # VMs

    def vm_list(self, host: str | None = None) -> tuple[VmAnswer, ...]:
        """The VMs of all hosts (or one); a dead host's answer says so."""
        return self.inventory.vms(host)

    def vm_show(self, name: str) -> VmFacts:
        """Everything of one VM."""
        vm = self.inventory.find(name)
        return vms.facts(self.inventory.connection(vm.host), vm.uuid)

    def vm_family(self, name: str) -> Kin:
        """The tree of linked clones that a VM belongs to, from the base of all."""
        vm = self.inventory.find(name)
        return family(vms.definitions(self.inventory.connection(vm.host)), vm.uuid)

    def vm_ticks(self, name: str) -> TickReport | None:
        """What a guest with the tick agent reports of itself; None for any other."""
        vm = self.inventory.find(name)
        return agent.ticks(self.inventory.connection(vm.host), vm.uuid)

    def vm_console(self, name: str) -> tuple[Connection, Vm]:
        """Where the VM's console is to be opened."""
        vm = self.inventory.find(name)
        return self.inventory.connection(vm.host), vm

    def vm_start(
        self,
        name: str,
        *,
        boot_timeout_s: float | None = None,
        verify: bool = False,
        watch: Watch | None = None,
    ) -> Operation:
        """Starts a VM; with ``boot_timeout_s`` waits until its guest is up.

        ``verify``: of a linked clone made with ``--verify`` all below its disks is read first.
        """
        self._begin()
        vm = self.inventory.find(name)
        case = start_case(self.inventory, vm, whole=verify)
        operation = self._runner.run(plan_start(case), watch)
        if boot_timeout_s is not None and operation.error is None:
            wait_boot(
                self.inventory.connection(vm.host), vm.uuid, self._clock, timeout_s=boot_timeout_s
            )
        return operation

    def wait_boot(self, name: str, timeout_s: float) -> str:
        """Waits until a running VM's guest is up; says by which sign."""
        vm = self.inventory.find(name)
        connection = self.inventory.connection(vm.host)
        return wait_boot(connection, vm.uuid, self._clock, timeout_s=timeout_s)

    def vm_stop(
        self, name: str, *, force: bool = False, timeout_s: float = 60, watch: Watch | None = None
    ) -> Operation:
        """Shuts a VM down, or with ``force`` ends it at once."""
        self._begin()
        vm = self.inventory.find(name)
        facts = vms.facts(self.inventory.connection(vm.host), vm.uuid)
        return self._runner.run(plan_stop(facts, force=force, timeout_s=timeout_s), watch)

    def vm_delete_plan(self, name: str, *, disks: bool) -> Plan:
        """What deleting a VM would do."""
        return plan_delete(delete_case(self.inventory, self.inventory.find(name), disks=disks))

    def vm_delete(self, name: str, *, disks: bool, watch: Watch | None = None) -> Operation:
        """Undefines a VM; with ``disks`` its own disk files are deleted too."""
        self._begin()
        return self._runner.run(self.vm_delete_plan(name, disks=disks), watch)

    def vm_flatten_plan(self, name: str) -> Plan:
        """What making a linked clone independent would do."""
        from twinship.lifecycle.flatten import FlattenCase, plan_flatten

        vm = self.inventory.find(name)
        connection = self.inventory.connection(vm.host)
        case = FlattenCase(vm=vms.facts(connection, vm.uuid), host=hosts.facts(connection))
        return plan_flatten(case, str(uuids.uuid4()))

    def vm_flatten(self, name: str, *, watch: Watch | None = None) -> Operation:
        """Makes a linked clone independent of its base, running or not."""
        self._begin()
        return self._runner.run(self.vm_flatten_plan(name), watch)

    # Clone and migrate

    def clone_plan(self, request: CloneRequest) -> Plan:
        """What cloning would do, and how long it will take if that is known."""
        return self._estimated(self._clone_plan(request))

    def _estimated(self, plan: Plan) -> Plan:
        from twinship.clone.estimate import estimated_s

        return replace(plan, estimate_s=estimated_s(plan, self._store.all(limit=HISTORY)))

    def _clone_plan(self, request: CloneRequest) -> Plan:
        host, uuid = self._origin(request)
        source = self.inventory.connection(host)
        target = self.inventory.connection(request.to) if request.to else source
        # Read first: a name that is promised no more is a VM's when the host is asked.
        promised = frozenset() if request.name else self._store.claimed(f"name/{target.name}/")
        facts = gather_clone(source, target, uuid, request)
        facts = replace(facts, names=facts.names | promised)
        (request,) = addressed(facts, (request,))
        return plan_clone(facts, request, new_ids(len(facts.summary.nics)))

    def _origin(self, request: CloneRequest) -> tuple[str, str]:
        """Host and UUID of what is cloned; no UUID for a definition in a file."""
        if request.definition_file:
            return self.inventory.record(request.vm.partition("/")[0]).name, ""
        vm = self.inventory.find(request.vm)
        return vm.host, vm.uuid

    def clone(
        self,
        request: CloneRequest,
        *,
        wait: bool = True,
        watch: Watch | None = None,
        waived: frozenset[str] = frozenset(),
    ) -> Operation:
        """Clones a VM on its host. Raises :class:`CheckBlocked` when a check blocks.

        ``waived``: codes of checks that shall only warn.
        """
        self._begin()
        for last in (False,) * NAME_TRIES + (True,):
            # A name of our choosing may have been taken since it was found free.
            mine = last or bool(request.name)
            try:
                plan = self.clone_plan(request).lenient(waived)
                operation = self._runner.run(plan, watch, wait=wait)
            except Busy as busy:
                if mine or not busy.resource.startswith(("name/", "file/")):
                    raise
                continue
            if mine or (operation.error or {}).get("code") != "PLAN_STALE":
                break
        return operation

    def clone_many_plan(
        self, request: CloneRequest, names: Sequence[str], *, keep_going: bool = False
    ) -> Plan:
        """What cloning a VM under each of these names would do; empty names are found free ones."""
        return self._estimated(self._clone_many_plan(request, names, keep_going=keep_going))

    def _clone_many_plan(
        self, request: CloneRequest, names: Sequence[str], *, keep_going: bool
    ) -> Plan:
        host, uuid = self._origin(request)
        source = self.inventory.connection(host)
        target = self.inventory.connection(request.to) if request.to else source
        promised = self._store.claimed(f"name/{target.name}/")
        facts = gather_clone(source, target, uuid, request)
        facts = replace(facts, names=facts.names | (promised if "" in names else frozenset()))
        requests = addressed(facts, [replace(request, name=name) for name in names])
        fresh = [new_ids(len(facts.summary.nics)) for _ in names]
        from twinship.clone.many import plan_many

        return plan_many(facts, requests, fresh, keep_going=keep_going)

    def clone_many(
        self,
        request: CloneRequest,
        names: Sequence[str],
        *,
        keep_going: bool = False,
        wait: bool = True,
        watch: Watch | None = None,
    ) -> Operation:
        """Clones a VM under each of these names: all or none, or as many as worked."""
        self._begin()
        plan = self._clone_many_plan(request, names, keep_going=keep_going)
        return self._runner.run(plan, watch, wait=wait)

    # What is nobody's

    def doctor(self, *, fix: bool = False) -> Diagnosis:
        """Looks over all hosts for what is nobody's; with ``fix`` mends what is certain."""
        from twinship.doctor.examine import examine
        from twinship.doctor.mend import Mender

        found = examine(self.inventory, self._store, self._runner.orphans())
        if not fix:
            return found

        def resume(operation_id: str) -> Operation:
            return self._runner.resume(operation_id, patience_s=0, watch=None)

        return Mender(self.inventory, self._store, resume).mend(found)

    # Inside

    def _begin(self) -> None:
        """What a changing command does first: settles what others left, forgets what is old."""
        self._runner.recover_orphans()
        upkeep.prune(self._database, self._clock.now() - timedelta(days=upkeep.KEEP_DAYS))

    def _clone_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        return changed(spec["binding"], self._clone_plan(asked_for(spec)).binding)

    def _clones_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        bound, first = spec["binding"], spec["clones"][0]["spec"]
        now = self._clone_plan(asked_for(first)).binding
        return changed(bound, {key: value for key, value in now.items() if key in bound})
