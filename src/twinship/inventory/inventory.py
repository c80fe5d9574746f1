"""The inventory: hosts, their VMs, and which VM a name means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TypeVar

from twinship.clock import Clock
from twinship.config import Config
from twinship.hypervisor import hosts, vms
from twinship.hypervisor.connection import Connection, Connections
from twinship.inventory.parallel import ask_all
from twinship.model.errors import (
    AmbiguousName,
    HostUnreachable,
    NotFound,
    TwinshipError,
    UsageError,
)
from twinship.model.host import HostFacts, HostRecord, HostStatus
from twinship.model.vm import Vm, VmAnswer
from twinship.store.hosts import HostStore

T = TypeVar("T")
LOCAL = HostRecord(name="local", uri="qemu:///system")
"""This machine, there without being added, when its libvirt answers."""

_UUID = re.compile(r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$", re.IGNORECASE)
_HOST_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


class Inventory:
    """Hosts and VMs by name."""

    def __init__(
        self,
        store: HostStore,
        connections: Connections,
        config: Config,
        clock: Clock,
        *,
        local: bool,
        extra: tuple[HostRecord, ...] = (),
    ) -> None:
        """``local``: count this machine's own libvirt in, when nothing else is named so.

        ``extra`` hosts are known without being added, unless an added one has the name or URI.
        """
        self._store = store
        self._connections = connections
        self._config = config
        self._clock = clock
        self._local = local
        self._extra = extra
        self._local_answers: bool | None = None

    def records(self) -> tuple[HostRecord, ...]:
        """Every host: those added, and ``local`` when it answers and was not added."""
        added = self._store.all()
        names, uris = {r.name for r in added}, {r.uri for r in added}
        added += tuple(r for r in self._extra if r.name not in names and r.uri not in uris)
        if not self._local or any(r.name == LOCAL.name or r.uri == LOCAL.uri for r in added):
            return added
        if self._local_answers is None:
            try:
                self._connections.get(LOCAL)
                self._local_answers = True
            except HostUnreachable:
                self._local_answers = False
        return (LOCAL, *added) if self._local_answers else added

    def record(self, name: str) -> HostRecord:
        """The host of that name. Raises :class:`NotFound`, with the nearest names."""
        known = self.records()
        for record in known:
            if record.name == name:
                return record
        near = difflib.get_close_matches(name, [record.name for record in known], n=3)
        names = ", ".join(record.name for record in known) or "none"
        hint = f"did you mean {' or '.join(near)}?" if near else f"hosts known: {names}"
        raise NotFound(f"no host is named {name[:60]!r}", code="HOST_NOT_FOUND", hint=hint)

    def connection(self, name: str) -> Connection:
        """An open connection to the host of that name."""
        return self._connections.get(self.record(name))

    def forget(self, name: str) -> None:
        """Closes the connection to a host."""
        self._connections.forget(name)

    def add(self, record: HostRecord) -> None:
        """Adds a host to the store, reachable or not."""
        if not _HOST_NAME.fullmatch(record.name):
            raise UsageError(
                f"{record.name[:60]!r} cannot be a host's name",
                code="HOST_NAME_INVALID",
                hint="letters, digits, dots, dashes and underscores, at most 63",
            )
        self._store.add(record)

    def remove(self, name: str) -> None:
        """Forgets a host; nothing changes on it."""
        self.record(name)
        self._store.remove(name)
        self._connections.forget(name)

    def ask(self, question: Callable[[Connection], T]) -> dict[str, T | TwinshipError]:
        """What every host answers to a question, by name, in parallel and bounded in time."""
        return ask_all(
            self.records(),
            lambda record: question(self._connections.get(record)),
            timeout_s=self._config.list_timeout_s,
            clock=self._clock,
        )

    def status(self, record: HostRecord) -> HostStatus:
        """Whether a host answers, and what it shows. Never raises for a dead host."""
        return self.statuses((record,))[0]

    def statuses(self, records: tuple[HostRecord, ...] | None = None) -> tuple[HostStatus, ...]:
        """The state of all hosts, read in parallel."""
        wanted = self.records() if records is None else records
        answers = ask_all(
            wanted, self._look, timeout_s=self._config.list_timeout_s, clock=self._clock
        )
        return tuple(_status(record, answers[record.name]) for record in wanted)

    def vms(self, host: str | None = None) -> tuple[VmAnswer, ...]:
        """The VMs of all hosts, read in parallel; a dead host's answer says so."""
        wanted = self.records() if host is None else (self.record(host),)
        answers = ask_all(
            wanted,
            lambda record: vms.all_vms(self._connections.get(record)),
            timeout_s=self._config.list_timeout_s,
            clock=self._clock,
        )
        return tuple(_vm_answer(record.name, answers[record.name]) for record in wanted)

    def find(self, name: str) -> Vm:
        """The one VM that ``NAME``, ``HOST/NAME``, ``UUID`` or ``HOST/UUID`` means.

        Raises :class:`NotFound` (naming hosts that could not be asked) or
        :class:`AmbiguousName` with the candidates.
        """
        host, slash, short = name.rpartition("/")
        if slash and not (host and short):
            raise UsageError(f"{name[:80]!r} names no VM", hint="NAME, HOST/NAME or UUID")
        answers = self.vms(host or None)
        everything = [vm for answer in answers for vm in answer.vms]
        if _UUID.match(short):
            matches = [vm for vm in everything if vm.uuid == short.lower()]
        else:
            matches = [vm for vm in everything if vm.name == short]
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = ", ".join(f"{vm.host}/{vm.uuid} ({vm.state.value})" for vm in matches)
            raise AmbiguousName(
                f"{name!r} could be {len(matches)} VMs", hint=f"say which: {listed}"
            )
        raise _no_vm(name, short, everything, answers)

    def _look(self, record: HostRecord) -> tuple[HostFacts, tuple[Vm, ...], float]:
        began = self._clock.monotonic()
        connection = self._connections.get(record)
        facts, found = hosts.facts(connection), vms.all_vms(connection)
        return facts, found, self._clock.monotonic() - began


def _no_vm(
    name: str, short: str, everything: list[Vm], answers: tuple[VmAnswer, ...]
) -> TwinshipError:
    dead = [answer.host for answer in answers if answer.error]
    near = difflib.get_close_matches(short, sorted({vm.name for vm in everything}), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "see twinship vm list"
    cause = f"these hosts could not be asked: {', '.join(dead)}" if dead else ""
    return NotFound(f"no VM is named {name[:80]!r}", code="VM_NOT_FOUND", cause=cause, hint=hint)


def _status(
    record: HostRecord, answer: tuple[HostFacts, tuple[Vm, ...], float] | TwinshipError
) -> HostStatus:
    if isinstance(answer, TwinshipError):
        return HostStatus(
            record=record, reachable=False, error=answer.cause or answer.message, hint=answer.hint
        )
    facts, found, seconds = answer
    return HostStatus(
        record=record,
        reachable=True,
        facts=facts,
        vms_running=sum(vm.state.active for vm in found),
        vms_total=len(found),
        seconds=round(seconds, 3),
    )


def _vm_answer(host: str, answer: tuple[Vm, ...] | TwinshipError) -> VmAnswer:
    if isinstance(answer, TwinshipError):
        return VmAnswer(host=host, error=answer.cause or answer.message, hint=answer.hint)
    return VmAnswer(host=host, vms=answer)
