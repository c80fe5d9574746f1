"""Moving VMs, one or many: a part of :class:`twinship.Controller`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from twinship.clock import Clock
from twinship.clone.ids import new_ids
from twinship.config import Config
from twinship.hypervisor import hosts
from twinship.hypervisor import vms as hypervisor_vms
from twinship.hypervisor.connection import Connection
from twinship.inventory.inventory import Inventory
from twinship.model.errors import HypervisorError, UsageError
from twinship.model.host import HostFacts
from twinship.model.operation import Operation
from twinship.model.plan import Plan
from twinship.model.request import MigrateMode, MigrateRequest
from twinship.model.vm import Vm, VmState
from twinship.operations.job import Watch
from twinship.operations.runner import Runner
from twinship.planning.binding import changed
from twinship.store.operations import OperationStore

if TYPE_CHECKING:
    from twinship.migrate.checks.together import Left
    from twinship.migrate.facts import MigrateFacts
    from twinship.migrate.many import Moving
    from twinship.migrate.ranking import Candidate


LOOK_BACK = 40
"""How many past operations are looked at for what they tell of a link."""


WORTH_LOOKING_S = 3.0
"""A busy guest is measured for 3 s: a move that is over sooner shows by itself what it comes to."""


class Look(Enum):
    """How closely a running guest is measured for the forecast of its move.

    ``CLOSELY``: for a plan that is shown. ``IF_WORTH_IT``: before a move, unless its whole memory
    is sent in less time than measuring takes. ``AWAY``: not at all, when a plan is only compared.
    """

    CLOSELY = "closely"
    IF_WORTH_IT = "if worth it"
    AWAY = "away"


class Convoy:
    """A VM, several, or all of a host, to another."""

    config: Config
    inventory: Inventory
    _runner: Runner
    _store: OperationStore
    _clock: Clock

    def _begin(self) -> None:
        raise NotImplementedError

    def migrate_plan(self, request: MigrateRequest, *, look: Look = Look.CLOSELY) -> Plan:
        """What moving would do; ``look`` says how closely a running guest is measured."""
        from twinship.migrate.plan import plan_migrate

        refuse_contradictions(request)
        vm = self.inventory.find(request.vm)
        target = self.inventory.record(request.target)
        facts = self._facts_of_move(vm, target.name, request)
        if look is not Look.AWAY and request.mode in (MigrateMode.AUTO, MigrateMode.LIVE):
            facts = self._looked_at(self.inventory.connection(vm.host), facts, look)
        return plan_migrate(facts, request, new_ids(0))

    def _looked_at(self, source: Connection, facts: MigrateFacts, look: Look) -> MigrateFacts:
        """The facts with how busy a running guest is, and what moves before it tell."""
        from twinship.hypervisor.load import guest_load, memory_used
        from twinship.migrate.outlook import ASSUMED_LINK
        from twinship.migrate.past import past

        if facts.vm.vm.state is not VmState.RUNNING:
            return facts
        uuid = facts.vm.vm.uuid
        before = past(self._store.all(limit=LOOK_BACK), facts.source.name, facts.target.name)
        facts = replace(facts, past=before)
        try:
            seconds = memory_used(source, uuid) / (before.link or ASSUMED_LINK)
            if look is Look.IF_WORTH_IT and seconds < WORTH_LOOKING_S:
                return facts
            return replace(facts, load=guest_load(source, uuid, self._clock))
        except HypervisorError:
            return facts  # the forecast says that nothing was measured

    def migrate_targets(
        self, request: MigrateRequest, targets: Sequence[str]
    ) -> tuple[Candidate, ...]:
        """What moving to each of these hosts would be, the best first, with the reasons."""
        from twinship.migrate.ranking import Candidate, ranked

        vm = self.inventory.find(request.vm)
        request = replace(request, vm=f"{vm.host}/{vm.uuid}")
        found = []
        for name in dict.fromkeys(targets):
            record = self.inventory.record(name)
            try:
                there = hosts.facts(self.inventory.connection(record.name))
                plan = self.migrate_plan(replace(request, target=name))
            except HypervisorError as error:
                found.append(Candidate(host=name, error=error.cause or error.message))
                continue
            found.append(Candidate(host=name, plan=plan, facts=there, memory_bytes=vm.memory_bytes))
        return ranked(found)

    def migrate(
        self,
        request: MigrateRequest,
        *,
        wait: bool = True,
        watch: Watch | None = None,
        waived: frozenset[str] = frozenset(),
    ) -> Operation:
        """Moves a VM to another host. Raises :class:`CheckBlocked` when a check blocks.

        ``waived``: codes of checks that shall only warn.
        """
        self._begin()
        plan = self.migrate_plan(request, look=Look.IF_WORTH_IT)
        return self._runner.run(plan.lenient(waived), watch, wait=wait)

    def _migrate_changes(self, spec: dict[str, Any]) -> tuple[str, ...]:
        from twinship.migrate.plan import asked_for

        return changed(spec["binding"], self.migrate_plan(asked_for(spec), look=Look.AWAY).binding)

    def migrate_many_plan(
        self,
        request: MigrateRequest,
        vms: Sequence[str] = (),
        *,
        source: str = "",
        keep_going: bool = False,
    ) -> Plan:
        """What moving these VMs would do, or with ``source`` all VMs of that host.

        ``request`` says how and where to; its ``vm`` is not looked at. Of ``source``, templates
        and bases of linked clones stay, and the plan says so (``LEFT_BEHIND``).
        """
        from twinship.migrate.many import left_behind, plan_moves

        refuse_contradictions(request)
        target = self.inventory.record(request.target).name
        found = self._of_host(source) if source else self._named(vms)
        left: list[Left] = []
        moving: list[Moving] = []
        shown = {
            host: hosts.facts(self.inventory.connection(host))
            for host in {target, *(vm.host for vm in found)}
        }
        for vm in found:
            facts = self._facts_of_move(vm, target, request, (shown[vm.host], shown[target]))
            stays = left_behind(facts) if source else None
            if stays is not None:
                left.append(stays)
            else:
                moving.append(self._moving(vm, facts, request))
        return plan_moves(
            moving,
            target=target,
            left=left,
            keep_going=keep_going,
            limits=self.config.limits,
            rate=request.rate,
        )

    def migrate_many(
        self,
        request: MigrateRequest,
        vms: Sequence[str] = (),
        *,
        source: str = "",
        keep_going: bool = False,
        wait: bool = True,
        watch: Watch | None = None,
    ) -> Operation | None:
        """Moves these VMs, or all of a host; None when there is none to move.

        The first failure stops the rest, unless ``keep_going``; what has arrived stays where it is.
        Raises :class:`CheckBlocked` when a check blocks, before anything is touched.
        """
        self._begin()
        plan = self.migrate_many_plan(request, vms, source=source, keep_going=keep_going)
        if not plan.spec["moves"]:
            return None
        return self._runner.run(plan, watch, wait=wait)

    def _named(self, names: Sequence[str]) -> tuple[Vm, ...]:
        found: dict[tuple[str, str], Vm] = {}
        for name in names:
            vm = self.inventory.find(name)
            if found.setdefault((vm.host, vm.uuid), vm) is not vm:
                raise UsageError(f"VM {vm.label} is named twice", hint="name each VM once")
        if not found:
            raise UsageError(
                "which VM is to be moved?", hint="name some, or all of a host: --all --from HOST"
            )
        return tuple(found.values())

    def _of_host(self, host: str) -> tuple[Vm, ...]:
        from twinship.migrate.many import OURS

        connection = self.inventory.connection(host)
        found = hypervisor_vms.all_vms(connection)
        return tuple(vm for vm in found if vm.persistent or not vm.name.startswith(OURS))

    def _facts_of_move(
        self,
        vm: Vm,
        target: str,
        request: MigrateRequest,
        known: tuple[HostFacts, HostFacts] | None = None,
    ) -> MigrateFacts:
        """``known``: the facts of both hosts, where they were read already."""
        from twinship.migrate.gather import gather

        here, there = self.inventory.connection(vm.host), self.inventory.connection(target)
        return gather(here, there, vm.uuid, request, known=known)

    def _moving(self, vm: Vm, facts: MigrateFacts, request: MigrateRequest) -> Moving:
        from twinship.migrate.many import Moving

        here = self.inventory.connection(vm.host)
        resident = hypervisor_vms.resident_bytes(here, vm.uuid) if vm.state.active else 0
        mine = replace(request, vm=f"{vm.host}/{vm.uuid}")
        return Moving(facts=facts, request=mine, ids=new_ids(0), resident_bytes=resident)


def refuse_contradictions(request: MigrateRequest) -> None:
    """Raises :class:`UsageError` for a request that says two things of one."""
    maps = dict(request.maps)
    for old, new in request.maps:
        if old.startswith("/") != new.startswith("/"):
            raise UsageError(
                f"{old[:60]} and {new[:60]} are not of one kind",
                hint="a directory is called by its whole path: --map /srv/a=/srv/b",
            )
        if new != old and new in maps:
            raise UsageError(
                f"--map says what {new[:60]} is to be called, and calls {old[:60]} so",
                hint="name each thing once, as it is at the source or as it is on the target",
            )
    if request.stay_defined and request.temporary:
        raise UsageError(
            "--stay-defined and --temporary exclude each other",
            hint="--temporary keeps the definition at the source anyway",
        )
