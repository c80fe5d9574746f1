"""The checks of a clone, one row each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from twinship.clone.disks import choice_of, copied, way_of
from twinship.clone.facts import CloneFacts
from twinship.clone.settings import problems, settings_of
from twinship.model.host import Pool
from twinship.model.plan import Severity
from twinship.model.request import CloneMode, CloneRequest, DiskWay
from twinship.model.vm import Disk, VmState
from twinship.planning import names
from twinship.planning.checks import CheckTable, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneCase:
    """What the rows look at: facts, request, and what the plan has chosen so far.

    ``pools`` are those written to, with the bytes; ``paths`` the new files; ``kept`` the files that
    disks (by target) take as they are.
    """

    facts: CloneFacts
    request: CloneRequest
    name: str
    uuid: str
    pools: tuple[tuple[str, int], ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()

    @property
    def copied(self) -> tuple[Disk, ...]:
        """The disks that get a file of their own."""
        return copied(self.facts, self.request)

    def disk(self, target: str) -> str:
        """A disk as findings name it."""
        return f"vm/{self.facts.source.vm.name}/disk/{target}"


TABLE: CheckTable[CloneCase] = CheckTable()
GIB = 1024**3


@TABLE.row("CLONE_NAME_INVALID")
def name_is_allowed(case: CloneCase) -> Problem | None:
    """The new name must be one that libvirt and a file system take.

    Source: libvirt's own rule (no slash, no newline), and 255 bytes for a file name.
    """
    why = names.problem(case.name)
    if not why:
        return None
    return Problem(
        f"{case.name[:60]!r} cannot be a VM's name: {why}",
        hint="choose another name",
        object="name",
    )


@TABLE.row("CLONE_NAME_TAKEN")
def name_is_free(case: CloneCase) -> Problem | None:
    """The new name must be free on the host."""
    if case.name not in case.facts.names:
        return None
    free = names.free_clone_name(case.name, case.facts.names)
    return Problem(
        f"a VM named {case.name!r} is already on {case.facts.host.name}",
        hint=f"choose another name, for example {free}",
        object=f"vm/{case.name}",
    )


@TABLE.row("CLONE_UUID_TAKEN")
def uuid_is_free(case: CloneCase) -> Problem | None:
    """The new UUID must be free on the host."""
    if case.uuid not in case.facts.uuids:
        return None
    return Problem(
        f"the UUID {case.uuid} is already in use", hint="leave out --uuid", object="uuid"
    )


@TABLE.row("CLONE_MAC_COUNT")
def macs_fit(case: CloneCase) -> Problem | None:
    """No more MAC addresses than interfaces; fewer are filled up with random ones."""
    given, there = len(case.request.macs), len(case.facts.summary.nics)
    if given <= there:
        return None
    return Problem(
        f"{given} MAC addresses are given, but the VM has {there} interfaces", object="mac"
    )


@TABLE.row("CLONE_MAC_TAKEN")
def macs_are_free(case: CloneCase) -> Iterator[Problem]:
    """A MAC address already used by a VM of the host would be on the link twice."""
    given = [mac.lower() for mac in case.request.macs]
    for mac in dict.fromkeys(given):
        if mac in case.facts.macs:
            yield Problem(f"the MAC address {mac} is already in use", object="mac")
        elif given.count(mac) > 1:
            yield Problem(f"the MAC address {mac} is given twice", object="mac")


@TABLE.row("VM_NOT_SHUT_OFF")
def source_is_off(case: CloneCase) -> Problem | None:
    """The source must be shut off: a copy of a disk in use is of no single moment."""
    state = case.facts.source.vm.state
    if state is VmState.SHUT_OFF:
        return None
    return Problem(
        f"{case.facts.source.vm.label} is {state.value.replace('_', ' ')}",
        hint=f"twinship vm stop {case.facts.source.vm.label}",
        object=f"vm/{case.facts.source.vm.name}",
    )


@TABLE.row("VM_MANAGED_SAVE", Severity.WARN)
def no_saved_memory(case: CloneCase) -> Problem | None:
    """A saved memory image stays with the source: the clone boots as after a power cut."""
    if not case.facts.source.managed_save:
        return None
    return Problem(
        "the source has a saved memory image; the clone starts without it, as after a power cut",
        hint="start the source and shut it down properly first",
        object=f"vm/{case.facts.source.vm.name}",
    )


@TABLE.row("VM_SNAPSHOTS", Severity.INFO)
def snapshots_stay(case: CloneCase) -> Problem | None:
    """libvirt's records of snapshots are the source's; the clone has none."""
    count = case.facts.source.snapshots
    if not count:
        return None
    return Problem(f"{count} snapshots of the source are not the clone's", object="snapshots")


@TABLE.row("DISK_UNREADABLE")
def chains_can_be_followed(case: CloneCase) -> Iterator[Problem]:
    """Every file of every disk must be there and lie in a storage pool of the host.

    A qcow2 header may name any file of the host as its backing file: what lies in no pool is never
    opened.
    """
    for disk in case.copied:
        for layer in disk.chain:
            if layer.problem:
                yield Problem(
                    layer.problem,
                    hint=_cure(layer.problem_code, layer.path, case.facts.host.name),
                    object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
                )


@TABLE.row("DISK_NOT_A_FILE")
def disks_are_files(case: CloneCase) -> Iterator[Problem]:
    """Disks on block devices, network storage or volumes by name are not cloned yet."""
    for disk in case.facts.source.disks:
        if disk.empty or disk.source_type == "file":
            continue
        way, asked = way_of(disk, case.request), choice_of(disk, case.request).way
        own = disk.device in ("disk", "lun") and not (disk.readonly or disk.shareable)
        if way is not DiskWay.COPY and not (own and asked is DiskWay.AUTO):
            continue
        yield Problem(
            f"disk {disk.target} is on {disk.protocol or disk.source_type} storage",
            hint="only disks in files can be cloned by this version",
            object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
        )


@TABLE.row("DISK_FORMAT")
def formats_are_known(case: CloneCase) -> Iterator[Problem]:
    """raw and qcow2 are copied; other formats are refused rather than guessed at."""
    for disk in case.copied:
        if disk.format not in ("", "raw", "qcow2"):
            yield Problem(
                f"disk {disk.target} is {disk.format}; raw and qcow2 can be cloned",
                object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
            )


@TABLE.row("DISK_ENCRYPTED")
def disks_are_in_clear(case: CloneCase) -> Iterator[Problem]:
    """An encrypted disk's secret belongs to one volume; the clone would need its own."""
    for disk in case.copied:
        header = disk.top.header if disk.top else None
        if disk.encrypted or (header is not None and header.encrypted):
            yield Problem(
                f"disk {disk.target} is encrypted, which cannot be cloned yet",
                object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
            )


@TABLE.row("DISK_SHARED", Severity.WARN)
def shared_disks_are_said(case: CloneCase) -> Iterator[Problem]:
    """A shareable disk is used by the clone too: both write to one disk."""
    for disk in case.facts.source.disks:
        if disk.shareable and disk.device == "disk":
            yield Problem(
                f"disk {disk.target} is shareable: the clone will use the very same one",
                object=f"vm/{case.facts.source.vm.name}/disk/{disk.target}",
            )


@TABLE.row("DISK_SHARED_WRITABLE", Severity.WARN)
def own_disks_that_are_shared_are_said(case: CloneCase) -> Iterator[Problem]:
    """Two VMs that write to one disk destroy its filesystem, unless it is made for that."""
    for disk in case.facts.source.disks:
        if disk.writable_file and way_of(disk, case.request) is DiskWay.SHARE:
            yield Problem(
                f"disk {disk.target} is shared: never run both VMs at a time",
                object=case.disk(disk.target),
            )


@TABLE.row("DISK_CHOICE")
def choices_are_of_disks(case: CloneCase) -> Iterator[Problem]:
    """What is said of a disk must be of one that the source has, once, and make sense."""
    known = [disk.target for disk in case.facts.source.disks]
    said = [choice.target for choice in case.request.disks]
    for choice in case.request.disks:
        if choice.target not in known:
            yield Problem(
                f"the VM has no disk {choice.target[:40]!r}",
                hint=f"its disks: {', '.join(known) or 'none'}",
                object="disk",
            )
        elif said.count(choice.target) > 1:
            yield Problem(f"disk {choice.target} is named twice", object=case.disk(choice.target))
        elif choice.way is DiskWay.KEEP and not choice.path:
            yield Problem(
                f"disk {choice.target} is to be kept: which file?", object=case.disk(choice.target)
            )


@TABLE.row("DISK_PATH")
def paths_can_be_used(case: CloneCase) -> Iterator[Problem]:
    """A new file goes where nothing is, into an active pool; a kept one must be there.

    libvirt reaches files through pools only, and a path could name anything on the host.
    """
    sources = {layer.path for disk in case.facts.source.disks for layer in disk.chain}
    for choice in case.request.disks:
        path, place = choice.path, case.disk(choice.target)
        if not path or choice.way in (DiskWay.DROP, DiskWay.SHARE):
            continue
        pool = case.facts.host.pool_at(path.rpartition("/")[0])
        if not path.startswith("/") or "/../" in path or path.endswith("/"):
            yield Problem(f"{path[:80]!r} is no absolute path of a file", object=place)
        elif pool is None or not pool.active:
            yield Problem(
                f"{path} lies in no active storage pool of {case.facts.host.name}",
                hint=_cure("DISK_NOT_IN_POOL", path, case.facts.host.name),
                object=place,
            )
        elif choice.way is DiskWay.KEEP and path not in case.facts.there:
            yield Problem(f"{path} is not there", object=place)
        elif choice.way is DiskWay.KEEP and path in sources:
            yield Problem(f"{path} is the source's own disk", object=place)
        elif choice.way is not DiskWay.KEEP and path in case.facts.there:
            yield Problem(f"{path} is already there", hint="choose another file", object=place)
    for path in sorted({path for path in case.paths if case.paths.count(path) > 1}):
        yield Problem(f"two disks would go to {path}", object="disk")


@TABLE.row("CLONE_SETTING")
def settings_fit(case: CloneCase) -> Iterator[Problem]:
    """What the clone shall have otherwise must fit what its definition says elsewhere."""
    settings = settings_of(case.request, case.name)
    for error in problems(case.facts.source.xml, settings):
        why = f"{error.message}: {error.cause}" if error.cause else error.message
        yield Problem(why, hint=error.hint, object=f"vm/{case.name}")


@TABLE.row("CLONE_LINKED")
def linked_where_its_base_is(case: CloneCase) -> Problem | None:
    """A linked clone reads its base's files: both are on one host."""
    if case.request.mode is not CloneMode.LINKED or not case.facts.across:
        return None
    return Problem(
        "a linked clone stays on the host of its base",
        hint="clone it in full (--mode full), or clone first and migrate then",
    )


@TABLE.row("TARGET_ADDRESS")
def target_can_be_sent_to(case: CloneCase) -> Problem | None:
    """The source's QEMU must know where to send: an address of the target that is not loopback."""
    if not case.facts.across or case.facts.address:
        return None
    host = case.facts.host.name
    return Problem(
        f"no address of {host} is known that other hosts could use",
        hint=f"add it with one: twinship host add {host} URI --address IP",
        object=f"host/{host}",
    )


@TABLE.row("STORAGE_POOL_MISSING")
def pools_are_there(case: CloneCase) -> Iterator[Problem]:
    """The pool for the new disks must exist, be active and be a directory."""
    for name, _ in case.pools:
        pool = _pool(case, name)
        if not name:
            continue  # DISK_PATH says what is wrong with the path
        if pool is None:
            known = ", ".join(p.name for p in case.facts.host.pools) or "none"
            yield Problem(
                f"host {case.facts.host.name} has no storage pool {name!r}",
                hint=f"pools there: {known}",
                object=f"pool/{name}",
            )
        elif not pool.active:
            yield Problem(
                f"storage pool {name!r} is not active",
                hint=f"virsh pool-start {name}",
                object=f"pool/{name}",
            )
        elif pool.type not in ("dir", "fs", "netfs"):
            yield Problem(
                f"storage pool {name!r} is of type {pool.type}; a directory is needed",
                object=f"pool/{name}",
            )


@TABLE.row("STORAGE_FULL")
def copies_fit(case: CloneCase) -> Iterator[Problem]:
    """The bytes to be copied must fit into the pool, all disks together."""
    for name, needed in case.pools:
        pool = _pool(case, name)
        if pool is not None and pool.active and needed > pool.available_bytes:
            yield Problem(
                f"the copies need {needed / GIB:.1f} GiB, pool {name!r} has "
                f"{pool.available_bytes / GIB:.1f} GiB left",
                hint="free space there or choose another pool (--pool)",
                object=f"pool/{name}",
            )


@TABLE.row("TPM_STATE")
def no_tpm_state(case: CloneCase) -> Problem | None:
    """A TPM's state is identity: the clone begins with an empty TPM."""
    if not case.facts.summary.tpm:
        return None
    return Problem(
        "the VM has a TPM; its state cannot be cloned yet",
        hint="remove the TPM from a copy of the definition, or wait for a version that can",
        object="tpm",
    )


@TABLE.row("HOST_DEVICE", Severity.WARN)
def host_devices_are_said(case: CloneCase) -> Iterator[Problem]:
    """A passed-through device can be used by one running VM at a time."""
    for device in case.facts.summary.hostdevs:
        yield Problem(f"the clone names the same {device}: only one of the two can run at a time")


def _pool(case: CloneCase, name: str) -> Pool | None:
    return next((pool for pool in case.facts.host.pools if pool.name == name), None)


def _cure(code: str, path: str, host: str) -> str:
    directory = path.rpartition("/")[0] or "/"
    match code:
        case "DISK_NOT_IN_POOL" | "BACKING_OUTSIDE_POOLS":
            return (
                f"if {directory} on {host} is meant to hold disks, make it a pool: "
                f"virsh pool-define-as NAME dir --target {directory} && virsh pool-start NAME"
            )
        case "BACKING_MISSING" | "DISK_MISSING":
            return "put the file back, or remove the disk from the VM"
        case "BACKING_FORMAT":
            return "write it into the header: qemu-img rebase -u -F FORMAT -b BACKING FILE"
        case _:
            return ""
