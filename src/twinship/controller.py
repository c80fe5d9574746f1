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

import os
import secrets
import subprocess
import sys
import threading
import uuid as uuids
from collections.abc import Callable
from types import TracebackType
from typing import Any

from twinship.clock import Clock, SystemClock
from twinship.clone.gather import gather as gather_clone
from twinship.clone.plan import plan_clone
from twinship.clone.run import CloneVerb
from twinship.config import Config, user_config
from twinship.hypervisor import agent, vms
from twinship.hypervisor.connection import Connection, Connections
from twinship.inventory.inventory import Inventory
from twinship.inventory.sharing import Sharing, compare
from twinship.lifecycle.boot import wait_boot
from twinship.lifecycle.gather import delete_case, start_case
from twinship.lifecycle.plan import plan_delete, plan_start, plan_stop
from twinship.lifecycle.run import EFFECTS, LifecycleVerb
from twinship.migrate.gather import gather as gather_migrate
from twinship.migrate.plan import plan_migrate
from twinship.migrate.run import MigrateVerb
from twinship.model.errors import Busy, CheckBlocked, Conflict, TwinshipError, UsageError
from twinship.model.host import HostRecord, HostStatus
from twinship.model.operation import Event, Operation, Progress
from twinship.model.plan import Plan, Severity
from twinship.model.request import (
    CloneMode,
    CloneRequest,
    MigrateMode,
    MigrateRequest,
    NewIds,
    StorageWay,
)
from twinship.model.vm import TickReport, Vm, VmAnswer, VmFacts
from twinship.operations.engine import Engine
from twinship.operations.job import Job, Watch
from twinship.planning.binding import changed
from twinship.store.database import Database
from twinship.store.hosts import HostStore
from twinship.store.operations import LostOwnership, OperationStore

WORKER_PATIENCE_S = 7 * 24 * 3600.0
WATCH_POLL_S = 0.2


class Controller:
    """Everything Twinship can do. Threads may share one; close it when done."""

    def __init__(
        self, config: Config | None = None, *, clock: Clock | None = None, local: bool = True
    ) -> None:
        """``local``: count this machine's libvirt among the hosts when it answers."""
        self.config = config or user_config()
        self._clock = clock or SystemClock()
        self._database = Database(self.config.database)
        self._connections = Connections(self.config)
        self._store = OperationStore(self._database)
        self.inventory = Inventory(
            HostStore(self._database), self._connections, self.config, self._clock, local=local
        )
        self._engine = Engine(self._store, self._verbs(), self._clock)

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
        """Which directories two hosts really share, and what a move between them lacks."""
        return compare(self.inventory.connection(name), self.inventory.connection(other))

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

    def vm_ticks(self, name: str) -> TickReport | None:
        """What a guest with the tick agent reports of itself; None for any other."""
        vm = self.inventory.find(name)
        return agent.ticks(self.inventory.connection(vm.host), vm.uuid)

    def vm_console(self, name: str) -> tuple[Connection, Vm]:
        """Where the VM's console is to be opened."""
        vm = self.inventory.find(name)
        return self.inventory.connection(vm.host), vm

    def vm_start(
        self, name: str, *, boot_timeout_s: float | None = None, watch: Watch | None = None
    ) -> Operation:
        """Starts a VM; with ``boot_timeout_s`` waits until its guest is up."""
        self._recover_orphans()
        vm = self.inventory.find(name)
        case = start_case(self.inventory, vm)
        operation = self._run(plan_start(case), watch)
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
        self._recover_orphans()
        vm = self.inventory.find(name)
        facts = vms.facts(self.inventory.connection(vm.host), vm.uuid)
        return self._run(plan_stop(facts, force=force, timeout_s=timeout_s), watch)

    def vm_delete_plan(self, name: str, *, disks: bool) -> Plan:
        """What deleting a VM would do."""
        return plan_delete(delete_case(self.inventory, self.inventory.find(name), disks=disks))

    def vm_delete(self, name: str, *, disks: bool, watch: Watch | None = None) -> Operation:
        """Undefines a VM; with ``disks`` its own disk files are deleted too."""
        self._recover_orphans()
        return self._run(self.vm_delete_plan(name, disks=disks), watch)

    # Clone and migrate

    def clone_plan(self, request: CloneRequest) -> Plan:
        """What cloning would do."""
        vm = self.inventory.find(request.vm)
        connection = self.inventory.connection(vm.host)
        facts = gather_clone(connection, vm.uuid, request)
        return plan_clone(facts, request, _new_ids(len(facts.summary.nics)))

    def clone(
        self, request: CloneRequest, *, wait: bool = True, watch: Watch | None = None
    ) -> Operation:
        """Clones a VM on its host. Raises :class:`CheckBlocked` when a check blocks."""
        self._recover_orphans()
        return self._run(self.clone_plan(request), watch, wait=wait)

    def migrate_plan(self, request: MigrateRequest) -> Plan:
        """What moving would do."""
        if request.stay_defined and request.temporary:
            raise UsageError(
                "--stay-defined and --temporary exclude each other",
                hint="--temporary keeps the definition at the source anyway",
            )
        vm = self.inventory.find(request.vm)
        target = self.inventory.record(request.target)
        facts = gather_migrate(
            self.inventory.connection(vm.host), self.inventory.connection(target.name), vm.uuid
        )
        return plan_migrate(facts, request, _new_ids(0))

    def migrate(
        self, request: MigrateRequest, *, wait: bool = True, watch: Watch | None = None
    ) -> Operation:
        """Moves a VM to another host. Raises :class:`CheckBlocked` when a check blocks."""
        self._recover_orphans()
        return self._run(self.migrate_plan(request), watch, wait=wait)

    # Operations

    def operation_list(self, *, unfinished: bool = False, limit: int = 50) -> tuple[Operation, ...]:
        """Operations, the newest first."""
        return self._store.all(unfinished=unfinished, limit=limit)

    def operation_show(self, operation_id: str) -> Operation:
        """One operation."""
        return self._store.get(operation_id)

    def operation_log(self, operation_id: str) -> tuple[Event, ...]:
        """The history of one operation."""
        self._store.get(operation_id)
        return self._store.events(operation_id)

    def operation_watch(self, operation_id: str, watch: Watch) -> Operation:
        """Follows an operation of any process until it ends."""
        last: tuple[Any, Progress] | None = None
        while True:
            op = self._store.get(operation_id)
            if (op.state, op.progress) != last:
                last = (op.state, op.progress)
                watch(op)
            if op.state.ended or (not op.owner and op.state.value == "waiting"):
                return op
            self._clock.wait(WATCH_POLL_S)

    def operation_cancel(self, operation_id: str) -> Operation:
        """Asks an operation to cancel and undo; its owner does so."""
        op = self._store.get(operation_id)
        if op.state.ended:
            raise UsageError(
                f"operation {operation_id} has ended ({op.state.value})", code="OPERATION_ENDED"
            )
        self._store.request_cancel(operation_id)
        return self._store.get(operation_id)

    def operation_resume(
        self,
        operation_id: str,
        *,
        patience_s: float | None = None,
        watch: Watch | None = None,
    ) -> Operation:
        """Goes on with an operation whose process is gone: finishes or undoes it."""
        job = self._engine.take_over(self._store.get(operation_id), watch)
        patience = self.config.settle_patience_s if patience_s is None else patience_s
        return self._drive(job, lambda: self._engine.recover(job, patience_s=patience))

    def operation_orphans(self) -> tuple[Operation, ...]:
        """Unfinished operations that no process works on."""
        return self._engine.orphans()

    # Inside

    def _verbs(self) -> dict[str, Any]:
        stall_s = self.config.stall_s
        verbs: dict[str, Any] = {
            kind: LifecycleVerb(kind=kind, hosts=self.inventory) for kind in EFFECTS
        }
        verbs["clone"] = CloneVerb(
            hosts=self.inventory, replan=self._clone_changes, stall_s=stall_s
        )
        verbs["migrate"] = MigrateVerb(
            hosts=self.inventory, replan=self._migrate_changes, stall_s=stall_s
        )
        return verbs

    def _clone_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        asked = dict(spec["request"])
        asked.update(name=spec["name"], macs=tuple(asked["macs"]), mode=CloneMode(asked["mode"]))
        return changed(spec["binding"], self.clone_plan(CloneRequest(**asked)).binding)

    def _migrate_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        asked = dict(spec["request"])
        asked.update(mode=MigrateMode(asked["mode"]), storage=StorageWay(asked["storage"]))
        return changed(spec["binding"], self.migrate_plan(MigrateRequest(**asked)).binding)

    def _run(self, plan: Plan, watch: Watch | None, *, wait: bool = True) -> Operation:
        _refuse_blocked(plan, self._busy_with)
        job = self._engine.submit(plan, watch, owned=wait)
        if not wait:
            self._leave_worker(job.op.id)
            return job.op
        patience = self.config.settle_patience_s
        operation = self._drive(job, lambda: self._engine.run(job, patience_s=patience))
        if not operation.state.ended:
            self._leave_worker(operation.id)
        return operation

    def _drive(self, job: Job, work: Callable[[], Operation]) -> Operation:
        """Runs the work in a thread, so that Ctrl-C reaches this one: it asks to cancel."""
        box: list[Operation | BaseException] = []
        ended = threading.Event()

        def run() -> None:
            try:
                box.append(work())
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
                box.append(error)
            finally:
                ended.set()

        self._connections.release()
        thread = threading.Thread(target=run, name=f"operation-{job.op.id}")
        thread.start()
        # Not join(): in Python 3.11 one that is interrupted takes the thread for ended.
        while not ended.is_set():
            try:
                ended.wait()
            except KeyboardInterrupt:
                job.request_cancel()
        thread.join()
        outcome = box[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _leave_worker(self, operation_id: str) -> None:
        """Starts a process of its own that goes on with the operation when this one is gone."""
        command = [sys.executable, "-m", "twinship", "operation", "resume", operation_id]
        environment = {**os.environ, "TWINSHIP_STATE_DIR": str(self.config.state)}
        subprocess.Popen(
            [*command, "--patience", str(int(WORKER_PATIENCE_S))],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _recover_orphans(self) -> None:
        """Settles what killed processes left, as far as it can be settled now."""
        for op in self._engine.orphans():
            try:
                job = self._engine.take_over(op)
                self._engine.recover(job, patience_s=0)
            except LostOwnership:
                continue  # another process was quicker
            except UsageError:
                continue  # it ended, or found an owner, meanwhile

    def _busy_with(self, plan: Plan) -> Busy | None:
        for resource in plan.resources:
            holder = self._store.holder(resource)
            if holder is not None:
                op = self._store.get(holder)
                return Busy(
                    f"{resource.replace('/', ' ', 1)} is in use by operation {op.id} ({op.title})",
                    hint=f"wait for it (twinship operation watch {op.id}) or cancel it",
                )
        return None


def _refuse_blocked(plan: Plan, busy: Callable[[Plan], Busy | None]) -> None:
    """Raises for a plan that a check blocks; another operation on the VM is the better reason."""
    blocks = [check for check in plan.checks if check.severity is Severity.BLOCK]
    if not blocks:
        return
    other = busy(plan)
    if other is not None:
        raise other
    first = blocks[0]
    more = f" (and {len(blocks) - 1} more)" if len(blocks) > 1 else ""
    kind: type[TwinshipError] = Conflict if first.code in _CONFLICTS else CheckBlocked
    error = kind(
        f"cannot {plan.title}",
        code=first.code,
        cause="; ".join(block.message for block in blocks),
        hint=first.hint or f"see all of it with --dry-run{more}",
    )
    raise error


_CONFLICTS = frozenset({"CLONE_NAME_TAKEN", "CLONE_UUID_TAKEN", "NAME_TAKEN", "DISK_EXISTS"})


def _new_ids(nics: int) -> NewIds:
    """Random identity. MACs are of QEMU's own range, 52:54:00."""
    return NewIds(
        uuid=str(uuids.uuid4()),
        genid=str(uuids.uuid4()),
        macs=tuple(
            "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
            for _ in range(nics)
        ),
        carrier=str(uuids.uuid4()),
    )
