"""Every row of the failure matrix, for every way to move, made at the exact moment.

The moments are the calls of libvirt's own protocol: before one arrives, and after it was done and
before its answer is back. The tally of all of it goes to docs/reference/migrate-faults.md.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.host.moved import MODES, Moved, waiting, wired
from tests.host.wire import Call, When, Wire
from tests.host.world import World
from twinship.model.operation import Operation, OperationState
from twinship_lab import DaemonAction, DaemonState, LabHost

pytestmark = pytest.mark.host

PAGE = Path(__file__).parents[2] / "docs/reference/migrate-faults.md"
TALLY: Counter[tuple[str, str, str, str]] = Counter()
END = {
    Call.BEGIN: "lab1",
    Call.PREPARE: "lab2",
    Call.PERFORM: "lab1",
    Call.FINISH: "lab2",
    Call.CONFIRM: "lab1",
}
MOMENTS = [(call, when) for call in Call for when in When]
COPY = (Call.PERFORM, When.BEFORE)
SWITCH = [(Call.FINISH, When.BEFORE), (Call.FINISH, When.AFTER), (Call.CONFIRM, When.BEFORE)]
FEWER = ("live, shared", "non-live")
"""Ways whose first calls are those of a live move with disks."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done by the wire at the moment, and after the operation waits or has ended."""

    make: Callable[[Moved, Wire, LabHost], None]
    mend: Callable[[Moved, LabHost], None] = lambda moved, host: None
    at: tuple[str, ...] = ()
    kills: bool = False

    def host(self, moved: Moved, call: Call) -> LabHost:
        """Whose fault: that of the call, unless the fault names its own."""
        return moved.world.lab.host(self.at[0] if self.at else END[call])


def _dark(moved: Moved, wire: Wire, _host: LabHost) -> None:
    wire.dark()


def _kill_daemon(_moved: Moved, wire: Wire, host: LabHost) -> None:
    host.daemon(DaemonAction.KILL)
    wire.cut()  # its answer goes with it


def _start_daemon(_moved: Moved, host: LabHost) -> None:
    host.daemon(DaemonAction.START)


def _freeze_daemon(_moved: Moved, _wire: Wire, host: LabHost) -> None:
    host.daemon(DaemonAction.FREEZE)


def _thaw_daemon(_moved: Moved, host: LabHost) -> None:
    if host.daemon_state() is DaemonState.FROZEN:
        host.daemon(DaemonAction.THAW)


def _signal_qemu(signal: str) -> Callable[[Moved, Wire, LabHost], None]:
    return lambda _moved, _wire, host: _signal(host, signal)


def _signal(host: LabHost, signal: str) -> None:
    host.run(["pkill", f"-{signal}", "qemu-system"], check=False)


FAULTS = {
    "connection lost": Fault(make=lambda _moved, wire, _host: wire.cut()),
    "no answer until it waits": Fault(make=_dark),
    "libvirtd killed": Fault(make=_kill_daemon, mend=_start_daemon),
    "target's libvirtd frozen": Fault(make=_freeze_daemon, mend=_thaw_daemon, at=("lab2",)),
    "target's QEMU frozen": Fault(
        make=_signal_qemu("STOP"), mend=lambda _moved, host: _signal(host, "CONT"), at=("lab2",)
    ),
    "source's QEMU killed": Fault(make=_signal_qemu("KILL"), at=("lab1",), kills=True),
    "target's QEMU killed": Fault(make=_signal_qemu("KILL"), at=("lab2",), kills=True),
    "the VM powers itself off": Fault(make=_signal_qemu("TERM"), at=("lab1",), kills=True),
}
WHERE: dict[str, list[tuple[Call, When]]] = {
    "connection lost": MOMENTS,
    "no answer until it waits": [COPY, *SWITCH],
    "libvirtd killed": [(Call.PERFORM, When.AFTER), *SWITCH],
    "target's libvirtd frozen": [COPY, (Call.FINISH, When.BEFORE)],
    "target's QEMU frozen": [COPY, (Call.FINISH, When.BEFORE)],
    "source's QEMU killed": [COPY, (Call.FINISH, When.BEFORE)],
    "target's QEMU killed": [COPY, (Call.FINISH, When.BEFORE), (Call.CONFIRM, When.BEFORE)],
    "the VM powers itself off": [COPY, (Call.FINISH, When.BEFORE)],
}
CASES = [
    (mode, fault, call, when)
    for mode in MODES
    for fault, moments in WHERE.items()
    for call, when in moments
    if not (mode == "offline" and fault == "the VM powers itself off")  # it is off
    if not (mode in FEWER and (call, when) not in (COPY, (Call.PERFORM, When.AFTER), *SWITCH))
]
DAILY = {
    ("live, shared", "connection lost", Call.FINISH, When.AFTER),
    ("live, with disks", "connection lost", Call.CONFIRM, When.BEFORE),
    ("live, with disks", "no answer until it waits", Call.FINISH, When.AFTER),
    ("non-live", "libvirtd killed", Call.FINISH, When.AFTER),
    ("offline", "connection lost", Call.FINISH, When.AFTER),
}


def ways(mode: str, fault: str, call: Call, when: When) -> set[str]:
    """Which ends are right: the VM is where it last ran, or where its disks are complete."""
    if fault in ("target's QEMU frozen", "target's libvirtd frozen"):
        return {"home", "moved"}  # it goes on once the target does, if that is soon enough
    if fault == "no answer until it waits" and (call, when) == (Call.FINISH, When.BEFORE):
        return {"home", "moved"}  # the call may still arrive
    if mode == "offline":
        return {"home", "moved"}  # the files are either carried by then, or carried no more
    arrived = (call, when) == (Call.FINISH, When.AFTER) or call is Call.CONFIRM
    if call is Call.FINISH and fault in ("source's QEMU killed", "the VM powers itself off"):
        arrived = True  # the target has everything, and starts it
    return {"moved"} if arrived else {"home"}


@pytest.mark.parametrize(
    ("mode", "fault", "call", "when"),
    [
        pytest.param(
            *case,
            marks=() if case in DAILY else pytest.mark.all,
            id=f"{case[0]}-{case[1]}-{case[3].name.lower()} {case[2].name.lower()}",
        )
        for case in CASES
    ],
)
def test_a_fault_at_a_call_of_the_move_leaves_one_whole_copy(
    world: World, tmp_path: Path, mode: str, fault: str, call: Call, when: When
) -> None:
    case = (mode, fault, f"{when.name.lower()} {call.name.capitalize()}")
    went = "WRONG"
    try:
        with wired(world, mode, tmp_path) as moved:
            operation = trouble(moved, FAULTS[fault], call, when)
            for event in world.history(operation.id):
                print(event.at, event.kind, event.phase, event.data)  # shown when it fails
            went = moved.assert_one_copy(died=FAULTS[fault].kills)
            assert went in ways(mode, fault, call, when)
            expected = OperationState.SUCCEEDED if went == "moved" else OperationState.FAILED
            assert operation.state is expected
            if went == "home":
                assert operation.error is not None
                assert operation.error["code"] in CODES, operation.error
            assert operation.leftovers == ()
            world.mend()
            world.assert_nothing_left()
    except BaseException:
        went = "WRONG"
        raise
    finally:
        TALLY[(*case, went)] += 1


CODES = {"HOST_UNREACHABLE", "HYPERVISOR", "STALLED", "JOB_ABORTED", "VM_NOT_FOUND"}


def trouble(moved: Moved, fault: Fault, call: Call, when: When) -> Operation:
    """Moves, makes the fault at the moment, mends it once the operation waits or has ended."""
    wire, host = moved.wires[END[call]], fault.host(moved, call)
    wire.moment, wire.trouble = (call, when), lambda wire: fault.make(moved, wire, host)
    over = threading.Event()

    def mend() -> None:
        while not wire.happened.wait(0.1):
            if over.is_set():
                return
        waiting(moved.world, 20)
        fault.mend(moved, host)
        wire.light()

    mender = threading.Thread(target=mend)
    mender.start()
    try:
        moved.move()
    finally:
        over.set()
        mender.join()
    assert wire.happened.is_set(), "the moment never came"
    return moved.settled()


@pytest.fixture(scope="module", autouse=True)
def page() -> Iterator[None]:
    """Writes the tally, if everything was run."""
    yield
    if sum(TALLY.values()) == len(CASES):
        PAGE.write_text(_page())


def _page() -> str:
    went = ("home", "moved", "WRONG")
    rows = []
    for fault, moments in WHERE.items():
        for mode in MODES:
            of_mode = {w: _count(fault, mode, w) for w in went}
            if any(of_mode.values()):
                calls = ", ".join(dict.fromkeys(call.name.capitalize() for call, _ in moments))
                cells = " | ".join(str(of_mode[w]) for w in went)
                rows.append(f"| {fault} | {calls} | {mode} | {cells} |")
    total = " | ".join(str(sum(n for key, n in TALLY.items() if key[3] == w)) for w in went)
    lines = [
        "# Faults of a move, call by call",
        "",
        f"Written by `script/test --all` ({datetime.now(UTC):%Y-%m-%d}): each fault is made just",
        "before a call of libvirt's migration protocol arrives, or after it was done and before",
        "its answer is back. *home*: undone, the VM is on the source as before; *moved*: finished.",
        "Any other end is *WRONG*: a VM that runs on both hosts at any moment, a file or a half",
        "that is left, a copy that is not whole, an operation whose state says something else.",
        "",
        "| fault | at | move | home | moved | WRONG |",
        "|---|---|---|---|---|---|",
        *rows,
        f"| **all** | | {sum(TALLY.values())} | {total} |",
        "",
    ]
    return "\n".join(lines)


def _count(fault: str, mode: str, went: str) -> int:
    return sum(n for key, n in TALLY.items() if (key[0], key[1], key[3]) == (mode, fault, went))
