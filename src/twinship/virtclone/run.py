"""One run of ``twinship-virt-clone``, on a controller."""

from __future__ import annotations

from pathlib import Path

from twinship.clone.from_file import read_definition
from twinship.controller import Controller
from twinship.domxml import read
from twinship.model.errors import Busy, CheckBlocked, Conflict, TwinshipError, UsageError
from twinship.model.operation import Operation, OperationState
from twinship.model.plan import Plan, Severity
from twinship.model.vm import Vm
from twinship.virtclone import order
from twinship.virtclone.host import is_here
from twinship.virtclone.naming import clone_name
from twinship.virtclone.options import Check, Options
from twinship.virtclone.replace import Replacement
from twinship.virtclone.talk import Talk

NAME_TRIES = 30
"""How often names are chosen anew that another clone was quicker to take."""

WAIVED = {Check.MAC_IN_USE: "CLONE_MAC_TAKEN", Check.DISK_SIZE: "STORAGE_FULL"}
"""What ``--check X=off`` turns off here. A file that is there is never overwritten."""


class Run:
    """One run of the command."""

    def __init__(self, controller: Controller, options: Options, talk: Talk) -> None:
        self._controller = controller
        self._options = options
        self._talk = talk
        self._host = controller.host_of(options.connect).name
        self._avoid: set[str] = set()

    def run(self) -> int:
        """Prints or makes the clone; the exit code. Raises what refuses it."""
        source = self._from_file() if self._options.original_xml else self._source()
        if self._options.print_xml:
            self._print(source)
            return 0
        return self._clone(source)

    def _source(self) -> order.Source:
        self._names()  # a host that does not answer says why
        found = self._controller.vm_show(f"{self._host}/{self._options.original}")
        if found.vm.state.active:
            raise UsageError(
                f"{found.vm.name} is {found.vm.state.value.replace('_', ' ')}",
                hint="shut it down first, as virt-clone wants it; twinship clone needs not",
            )
        return order.Source(
            name=found.vm.name,
            uuid=found.vm.uuid,
            xml=found.inactive_xml,
            paths={disk.target: disk.path for disk in found.disks if disk.chain},
        )

    def _from_file(self) -> order.Source:
        """A definition that need not be a VM of the host, though its disks lie there."""
        file = str(Path(self._options.original_xml).absolute())
        text = read_definition(file)
        summary = read.summary(text)
        if not self._options.print_xml:
            self._refuse_running(text)
        return order.Source(name=summary.name, uuid=summary.uuid, xml=text, file=file)

    def _refuse_running(self, text: str) -> None:
        """Raises :class:`UsageError` while a VM of the host writes to one of the disks."""
        running = {vm.name for vm in self._vms() if vm.state.active}
        for disk in read.disks(text):
            users = self._controller.file_users(self._host, disk.path) if disk.path else ()
            if writes := sorted(running & set(users)):
                raise UsageError(
                    f"{disk.path} is a disk of {writes[0]}, which runs",
                    hint="shut it down first, as virt-clone wants it; twinship clone needs not",
                )

    def _order(self, source: order.Source) -> order.Order:
        """What is asked for, with the names that are free now."""
        names = self._names() | {name for name in self._avoid if "/" not in name}
        name = self._options.name or clone_name(source.name, names)
        made = order.make(source, self._options, name, self._there)
        for target in made.unknown:
            self._talk.warn(f"{source.name} has no disk {target}")
        if made.tpm:
            self._talk.warn("the clone's TPM will be empty (twinship clone --tpm copy copies it)")
        for choice in made.kept:
            self._refuse_file_in_use(choice.path)
        return made

    def _print(self, source: order.Source) -> None:
        made = self._order(source)
        if made.name in self._names() and not self._options.replace:
            raise UsageError(f"a VM named {made.name!r} is already there", hint="--replace")
        self._talk.document(made.definition())

    def _clone(self, source: order.Source) -> int:
        for last in (False,) * NAME_TRIES + (True,):
            made = self._order(source)
            for directory in made.directories:
                self._controller.pool_over(self._host, directory)
            request = made.request("" if source.file else source.uuid, self._host)
            plan = self._controller.clone_plan(request).lenient(self._waived())
            if self._options.reflink:
                order.refuse_copies(plan)
            replacement = Replacement(self._controller, self._host, made.name, source.uuid)
            if self._options.replace:
                replacement.check(plan)
                replacement.do()
            self._talk.warnings(plan)
            try:
                operation = self._controller.clone(
                    request, watch=self._talk.progress(made.files), waived=self._waived()
                )
            except Busy as busy:
                if last or not self._chosen_by_us(busy.resource):
                    raise
                continue
            except (CheckBlocked, Conflict):
                if last or not self._taken_meanwhile(plan, made):
                    raise
                continue
            finally:
                self._talk.end_progress()
            if last or (operation.error or {}).get("code") != "PLAN_STALE":
                break
        return self._told(operation, made.name)

    def _chosen_by_us(self, resource: str) -> bool:
        """Whether another name or path will do; it is then not chosen again."""
        kind, _, rest = resource.partition("/")
        taken = rest.partition("/")[2]
        if kind == "name":
            ours = not self._options.name
        else:
            ours = kind == "file" and taken not in self._options.files
        self._avoid.add(taken)
        return ours and self._options.auto_clone

    def _taken_meanwhile(self, plan: Plan, made: order.Order) -> bool:
        """Whether all that was in the way are a name and files that were free when chosen."""
        ours = self._options.auto_clone
        blocking = {check.code for check in plan.checks if check.severity is Severity.BLOCK}
        if blocking - {"DISK_PATH", "CLONE_NAME_TAKEN"}:
            return False
        files = [path for path in made.files if self._controller.file_there(self._host, path)]
        name = made.name in self._names()
        return ours and ((name and not self._options.name) or bool(files))

    def _told(self, operation: Operation, name: str) -> int:
        match operation.state:
            case OperationState.SUCCEEDED:
                self._talk.say(f"\nClone '{name}' created successfully.")
                return 0
            case OperationState.CANCELLED:
                self._talk.error("interrupted; nothing is left behind")
                return 130
            case _:
                self._talk.ended(operation)
                return 1

    def _names(self) -> frozenset[str]:
        return frozenset(vm.name for vm in self._vms())

    def _vms(self) -> tuple[Vm, ...]:
        (answer,) = self._controller.vm_list(self._host)
        if answer.error:
            raise TwinshipError(answer.error, code="HOST_UNREACHABLE", hint=answer.hint)
        return answer.vms

    def _there(self, path: str) -> bool:
        if path in self._avoid or self._controller.file_there(self._host, path):
            return True
        # Only to choose a name: a file of this machine that lies in no pool.
        return is_here(self._options.connect) and Path(path).exists()

    def _refuse_file_in_use(self, path: str) -> None:
        if Check.PATH_IN_USE in self._options.off:
            return
        users = self._controller.file_users(self._host, path)
        if users:
            raise UsageError(
                f"{path} is a disk of {', '.join(users)}",
                hint="--check path_in_use=off takes it all the same",
            )

    def _waived(self) -> frozenset[str]:
        return frozenset(WAIVED[check] for check in self._options.off if check in WAIVED)
