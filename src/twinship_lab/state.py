"""What the lab intends to hold, on disk before it is made; and the lock on it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from twinship_lab.errors import LabBusy, NotReady
from twinship_lab.programs import wait_until

DEFAULT_ROOT = Path("/var/lib/twinship-lab")
DIRECTORY_VARIABLE = "TWINSHIP_LAB_DIR"
INVENTORY = "inventory"
"""What a program that works on the lab keeps here of it; goes away with the lab."""
_OURS = frozenset(
    {"cache", "control", "hosts", INVENTORY, "lab.json", "lab.json.new", "lock", "shares"}
)
# sun_path is 108 bytes with its final NUL (unix(7)); the longest tail we connect to.
_LONGEST_TAIL = "/hosts/lab99/run/libvirt/libvirt-sock"
_SOCKET_PATH_BYTES = 107
_FIRST_HOST_ADDRESS = 10


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host the lab is to have; ``rate_bytes_s`` shapes its data link, None: unlimited."""

    number: int
    rate_bytes_s: int | None = None

    @property
    def name(self) -> str:
        """``lab1``, ``lab2``…"""
        return f"lab{self.number}"


@dataclass(frozen=True, slots=True)
class ShareRecord:
    """A shared disk the lab is to serve."""

    name: str
    port: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LabState:
    """The lab's intent: its address range, hosts and shared disks."""

    network: str
    hosts: tuple[HostRecord, ...] = ()
    shares: tuple[ShareRecord, ...] = ()

    def address(self, number: int) -> str:
        """The address of host ``number`` on the fabric."""
        return str(IPv4Network(self.network)[_FIRST_HOST_ADDRESS + number])

    @property
    def storage_address(self) -> str:
        """The address of the namespace that serves shared disks."""
        return str(IPv4Network(self.network)[2])

    def with_host(self, host: HostRecord) -> LabState:
        """The same with this host added or replaced."""
        others = tuple(h for h in self.hosts if h.number != host.number)
        return replace(self, hosts=tuple(sorted((*others, host), key=lambda h: h.number)))

    def with_hosts(self, count: int) -> LabState:
        """The same with hosts lab1 to lab``count`` present; none is taken away."""
        grown = self
        for number in range(1, count + 1):
            if all(h.number != number for h in self.hosts):
                grown = grown.with_host(HostRecord(number))
        return grown


def lab_root(root: Path | None) -> Path:
    """The state directory: as named, else from the environment, else the default.

    Raises :class:`NotReady` when Unix sockets below it would have too long a path.
    """
    named = root or Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_ROOT)
    real = named.expanduser().resolve()
    room = _SOCKET_PATH_BYTES - len(_LONGEST_TAIL)
    if len(os.fsencode(real)) > room:
        raise NotReady(
            f"the lab's state directory has too long a path: {real}",
            cause=f"Unix sockets below it allow it {room} bytes, it has {len(os.fsencode(real))}",
            hint=f"name a shorter one in {DIRECTORY_VARIABLE}",
        )
    return real


def lab_id(root: Path) -> str:
    """Six hexadecimal digits that mark everything of this lab, from its directory's path."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:6]


def host_uuid(root: Path, name: str) -> str:
    """The host's libvirt UUID: the same at every start, different in every lab."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"twinship-lab:{root}/{name}"))


def load(root: Path) -> LabState | None:
    """The recorded state; None when there is no lab."""
    try:
        raw = json.loads((root / "lab.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise NotReady(
            f"{root}/lab.json is not readable",
            cause=str(error),
            hint="take the lab down, which does not need it, and up again",
        ) from error
    return LabState(
        network=raw["network"],
        hosts=tuple(HostRecord(**host) for host in raw["hosts"]),
        shares=tuple(ShareRecord(**share) for share in raw["shares"]),
    )


def save(root: Path, state: LabState) -> None:
    """Record the state; whoever reads sees the old one or the new one, never half of it."""
    fresh = root / "lab.json.new"
    fresh.write_text(json.dumps(asdict(state), indent=1) + "\n")
    fresh.replace(root / "lab.json")


def refuse_foreign(root: Path) -> None:
    """Raise :class:`NotReady` when somebody else keeps files in the state directory."""
    foreign = sorted({entry.name for entry in root.iterdir()} - _OURS)
    if foreign:
        raise NotReady(
            f"{root} is not a lab's directory",
            cause=f"it holds {', '.join(foreign[:5])}",
            hint=f"name an empty directory in {DIRECTORY_VARIABLE}",
        )


@contextmanager
def locked(root: Path, *, patience_s: float = 60) -> Iterator[None]:
    """Hold the lab's lock; :class:`LabBusy` names the holder when it stays taken.

    The kernel frees the lock with its holder's last breath, so a killed command
    leaves none behind.
    """
    with (root / "lock").open("a+") as file:
        if not wait_until(lambda: _try_lock(file.fileno()), within_s=patience_s):
            file.seek(0)
            raise LabBusy(
                f"another lab command works on {root}",
                cause=f"process {file.read().strip() or 'unknown'} holds its lock",
                hint="wait for it to end, or end it",
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
