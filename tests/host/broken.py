"""Set-ups in which a move cannot work: what is wrong, how it is made, and how it is mended again.

Each is a row: the code of the check that has to speak, and what makes it so on two real hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from tests.host.world import IMAGES, Disk, World
from twinship_lab import LabHost

Making = Callable[[World], AbstractContextManager[None]]
LIVE, PAUSED, OFF = "live", "paused", "off"
OTHER = "/var/lib/libvirt/other"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One thing that is wrong.

    ``extra`` goes into the VM's devices, ``elements`` beside them. ``made`` is there while the VM
    is defined, ``late`` once it runs. ``modes``: in which states of the VM it matters.
    """

    code: str
    extra: str = ""
    elements: str = ""
    made: Making = lambda _world: nullcontext()
    late: Making = lambda _world: nullcontext()
    modes: tuple[str, ...] = (LIVE, PAUSED, OFF)
    disks: tuple[Disk, ...] = (Disk(file="web.qcow2", data_bytes=65536),)
    disks_at: tuple[tuple[str, str], ...] = ()
    machine: str = "pc"
    uefi: bool = False


def nic(kind: str, source: str, more: str = "") -> str:
    """An interface."""
    key = {"network": "network", "bridge": "bridge", "direct": "dev"}[kind]
    return (
        f"<interface type='{kind}'><source {key}='{source}'/><model type='virtio'/>{more}"
        "</interface>"
    )


NETWORK = "<network><name>{name}</name><forward mode='bridge'/><bridge name='br7'/></network>"


def _say(host: LabHost, *words: str, text: str = "", check: bool = True) -> None:
    host.run(list(words), input=text.encode(), check=check)


@contextmanager
def bridge_on(*hosts: LabHost) -> Iterator[None]:
    """A bridge br7."""
    for host in hosts:
        _say(host, "ip", "link", "add", "br7", "type", "bridge")
        _say(host, "ip", "link", "set", "br7", "up")
    try:
        yield
    finally:
        for host in hosts:
            _say(host, "ip", "link", "del", "br7")


@contextmanager
def network_on(host: LabHost, name: str, *, active: bool = True) -> Iterator[None]:
    """A network over br7."""
    _say(host, "virsh", "-q", "net-define", "/dev/stdin", text=NETWORK.format(name=name))
    if active:
        _say(host, "virsh", "-q", "net-start", name)
    try:
        yield
    finally:
        _say(host, "virsh", "-q", "net-destroy", name, check=False)
        _say(host, "virsh", "-q", "net-undefine", name)


def source_bridge(world: World) -> AbstractContextManager[None]:
    """A bridge that the target lacks."""
    return bridge_on(world.one)


@contextmanager
def source_network(world: World) -> Iterator[None]:
    """A network that the target lacks."""
    with bridge_on(world.one), network_on(world.one, "red"):
        yield


@contextmanager
def idle_network(world: World) -> Iterator[None]:
    """A network that is not active on the target."""
    with (
        bridge_on(world.one),
        network_on(world.one, "red"),
        network_on(world.two, "red", active=False),
    ):
        yield


@contextmanager
def source_pool(world: World) -> Iterator[None]:
    """A pool that the target lacks, with a disk in it."""
    _say(world.one, "mkdir", "-p", OTHER)
    _say(world.one, "virsh", "-q", "pool-create-as", "other", "dir", "--target", OTHER)
    _say(world.one, "qemu-img", "create", "-q", "-f", "qcow2", f"{OTHER}/web.qcow2", "8M")
    try:
        yield
    finally:
        _say(world.one, "virsh", "-q", "pool-destroy", "other", check=False)
        _say(world.one, "rm", "-rf", OTHER)


@contextmanager
def idle_pool(world: World) -> Iterator[None]:
    """The target's pool is not active."""
    _say(world.two, "virsh", "-q", "pool-destroy", "default")
    try:
        yield
    finally:
        _say(world.two, "virsh", "-q", "pool-start", "default")


def hidden(path: str, *, directory: bool = False) -> Making:
    """The target has no such program, or nothing in that directory."""

    @contextmanager
    def hide(world: World) -> Iterator[None]:
        host = world.two
        if directory:
            _say(host, "mount", "-t", "tmpfs", "tmpfs", path)
        else:
            _say(host, "mount", "--bind", "/dev/null", path)
        try:
            yield
        finally:
            _say(host, "umount", path)

    return hide


@contextmanager
def source_emulator(world: World) -> Iterator[None]:
    """QEMU lies where the target has none."""
    path = "/usr/local/bin"
    _say(world.one, "mount", "-t", "tmpfs", "tmpfs", path)
    _say(world.one, "ln", "-s", "/usr/bin/qemu-system-x86_64", f"{path}/qemu-kvm")
    try:
        yield
    finally:
        _say(world.one, "umount", path)


def other_vm(extra: str = "", *, name: str = "other", start: bool = False) -> Making:
    """A VM on the target."""

    @contextmanager
    def make(world: World) -> Iterator[None]:
        world.make_vm(world.two, name, extra=extra, start=start)
        yield

    return make


@contextmanager
def same_uuid(world: World) -> Iterator[None]:
    """A stale definition of the VM on the target."""
    text = world.one.run(["virsh", "dumpxml", "--inactive", "web"]).stdout
    _say(world.two, "virsh", "-q", "define", "/dev/stdin", text=text.decode())
    yield


@contextmanager
def taken_file(world: World) -> Iterator[None]:
    """A file of the disk's name on the target."""
    path = f"{IMAGES}/web.qcow2"
    _say(world.two, "qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    yield


@contextmanager
def source_iso(world: World) -> Iterator[None]:
    """A medium that the target lacks, outside of all pools."""
    _say(world.one, "truncate", "-s", "1M", "/var/lib/libvirt/boot.iso")
    try:
        yield
    finally:
        _say(world.one, "rm", "-f", "/var/lib/libvirt/boot.iso")


@contextmanager
def source_directory(world: World) -> Iterator[None]:
    """A directory for logs that the target lacks."""
    _say(world.one, "mkdir", "-p", "/var/lib/libvirt/logs")
    try:
        yield
    finally:
        _say(world.one, "rm", "-rf", "/var/lib/libvirt/logs")


@contextmanager
def spare_disk(world: World) -> Iterator[None]:
    """A disk image that no VM has yet."""
    world.make_disk(world.one, Disk(file="more.qcow2", data_bytes=0))
    yield


@contextmanager
def block_job(world: World) -> Iterator[None]:
    """A copy of the disk that is not ended."""
    copy = ["virsh", "-q", "blockcopy", "web", "vda", "--dest", f"{IMAGES}/copy.raw"]
    _say(world.one, *copy, "--format", "raw", "--wait", "--transient-job")
    try:
        yield
    finally:
        _say(world.one, "virsh", "-q", "blockjob", "web", "vda", "--abort", check=False)


@contextmanager
def snapshot(world: World) -> Iterator[None]:
    """A snapshot of the running VM, with its memory."""
    _say(world.one, "virsh", "-q", "snapshot-create-as", "web", "then")
    yield


@contextmanager
def backup_job(world: World) -> Iterator[None]:
    """A backup that is under way (pull mode lasts until it is ended)."""
    text = (
        "<domainbackup mode='pull'><server transport='unix' socket='/var/lib/libvirt/backup.sock'/>"
        "</domainbackup>"
    )
    _say(world.one, "virsh", "-q", "backup-begin", "web", "/dev/stdin", text=text)
    try:
        yield
    finally:
        _say(world.one, "virsh", "-q", "domjobabort", "web", check=False)


@contextmanager
def little_room(world: World) -> Iterator[None]:
    """The target's pool holds half a megabyte."""
    _say(world.two, "mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", IMAGES)
    _say(world.two, "virsh", "-q", "pool-refresh", "default")
    try:
        yield
    finally:
        _say(world.two, "umount", IMAGES)
        _say(world.two, "virsh", "-q", "pool-refresh", "default")


@contextmanager
def source_entropy(world: World) -> Iterator[None]:
    """A file of random bytes that the target lacks."""
    path = "/var/lib/libvirt/entropy"
    _say(world.one, "dd", "if=/dev/urandom", f"of={path}", "bs=4096", "count=1", "status=none")
    _say(world.one, "chmod", "644", path)
    try:
        yield
    finally:
        _say(world.one, "rm", "-f", path)


@contextmanager
def source_floppy(world: World) -> Iterator[None]:
    """A floppy's image."""
    _say(world.one, "truncate", "-s", "1440K", f"{IMAGES}/floppy.img")
    yield


def screen(port: int = -1, address: str = "") -> str:
    """A VNC screen."""
    auto = "yes" if port < 0 else "no"
    listen = f"<listen type='address' address='{address}'/>" if address else ""
    return f"<graphics type='vnc' port='{port}' autoport='{auto}'>{listen}</graphics>"


def tcp_serial(port: int) -> str:
    """A serial port on a TCP port of the host."""
    return (
        f"<serial type='tcp'><source mode='bind' host='127.0.0.1' service='{port}'/>"
        "<protocol type='raw'/></serial>"
    )


def cdrom(path: str) -> str:
    """A CD-ROM drive."""
    return (
        f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{path}'/>"
        "<target dev='hdc' bus='ide'/><readonly/></disk>"
    )


FILTER = "<filterref filter='quiet'/>"


@contextmanager
def source_filter(world: World) -> Iterator[None]:
    """A network filter that the target lacks."""
    with bridge_on(world.one, world.two):
        text = "<filter name='quiet' chain='root'/>"
        _say(world.one, "virsh", "-q", "nwfilter-define", "/dev/stdin", text=text)
        try:
            yield
        finally:
            _say(world.one, "virsh", "-q", "nwfilter-undefine", "quiet")


BROKEN: dict[str, Broken] = {
    "no bridge": Broken(code="BRIDGE_MISSING", extra=nic("bridge", "br7"), made=source_bridge),
    "two nics, no bridge": Broken(
        code="BRIDGE_MISSING", extra=nic("bridge", "br7") * 2, made=source_bridge
    ),
    "no macvtap device": Broken(
        code="BRIDGE_MISSING", extra=nic("direct", "br7"), made=source_bridge
    ),
    "no network": Broken(code="NETWORK_MISSING", extra=nic("network", "red"), made=source_network),
    "an idle network": Broken(
        code="NETWORK_MISSING", extra=nic("network", "red"), made=idle_network
    ),
    "no network filter": Broken(
        code="NWFILTER_MISSING", extra=nic("bridge", "br7", FILTER), made=source_filter
    ),
    "no pool": Broken(
        code="STORAGE_POOL_MISSING",
        disks=(),
        disks_at=((f"{OTHER}/web.qcow2", "qcow2"),),
        made=source_pool,
    ),
    "an idle pool": Broken(code="STORAGE_POOL_MISSING", late=idle_pool),
    "no QEMU at that path": Broken(
        code="EMULATOR_MISSING",
        extra="<emulator>/usr/local/bin/qemu-kvm</emulator>",
        made=source_emulator,
    ),
    "no swtpm": Broken(
        code="DEVICE_MODEL_MISSING",
        extra="<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
        late=hidden("/usr/bin/swtpm"),
    ),
    "no firmware": Broken(
        code="FIRMWARE_MISSING",
        uefi=True,
        machine="q35",
        late=hidden("/usr/share/OVMF", directory=True),
    ),
    "another VM of that name": Broken(code="NAME_TAKEN", late=other_vm(name="web")),
    "another VM of that name runs": Broken(
        code="NAME_TAKEN", late=other_vm(name="web", start=True)
    ),
    "a stale definition": Broken(code="NAME_TAKEN", late=same_uuid),
    "the screen's port is taken": Broken(
        code="TARGET_COLLISION",
        extra=screen(5933),
        late=other_vm(screen(5933), start=True),
    ),
    "a serial port's port is taken": Broken(
        code="TARGET_COLLISION",
        extra=tcp_serial(5934),
        late=other_vm(tcp_serial(5934), start=True),
    ),
    "a tap device's name is taken": Broken(
        code="TARGET_COLLISION",
        extra=nic("bridge", "br7", "<target dev='web-tap'/>"),
        made=lambda world: bridge_on(world.one, world.two),
        late=other_vm(nic("bridge", "br7", "<target dev='web-tap'/>"), start=True),
    ),
    "a web socket's port is taken": Broken(
        code="TARGET_COLLISION",
        extra="<graphics type='vnc' port='5936' autoport='no' websocket='5937'/>",
        late=other_vm(tcp_serial(5937), start=True),
    ),
    "a serial port at the source's address": Broken(
        code="LISTEN_ADDRESS",
        extra="<serial type='tcp'><source mode='bind' host='SOURCE' service='5939'/>"
        "<protocol type='raw'/></serial>",
    ),
    "a network of QEMU's at the source's address": Broken(
        code="LISTEN_ADDRESS",
        extra="<interface type='server'><mac address='52:54:00:00:00:09'/>"
        "<source address='SOURCE' port='5940'/><model type='virtio'/></interface>",
    ),
    "a socket's directory is not there": Broken(
        code="HOST_FILE",
        extra="<serial type='unix'><source mode='bind' path='/var/lib/libvirt/logs/s'/></serial>",
        made=source_directory,
    ),
    "a file of random bytes is not there": Broken(
        code="HOST_FILE",
        extra="<rng model='virtio'><backend model='random'>/var/lib/libvirt/entropy</backend>"
        "</rng>",
        made=source_entropy,
    ),
    "a floppy that can be written": Broken(
        code="FLOPPY_WRITABLE",
        extra="<disk type='file' device='floppy'><driver name='qemu' type='raw'/>"
        f"<source file='{IMAGES}/floppy.img'/><target dev='fda' bus='fdc'/></disk>",
        made=source_floppy,
    ),
    "a pool without room": Broken(
        code="STORAGE_FULL",
        late=little_room,
        disks=(Disk(file="web.qcow2"),),
    ),
    "a screen at the source's address": Broken(
        code="LISTEN_ADDRESS", extra=screen(address="SOURCE")
    ),
    "a medium that is not there": Broken(
        code="MEDIUM_MISSING", extra=cdrom("/var/lib/libvirt/boot.iso"), made=source_iso
    ),
    "a log's directory is not there": Broken(
        code="HOST_FILE",
        extra="<serial type='pty'><log file='/var/lib/libvirt/logs/web.log'/></serial>",
        made=source_directory,
    ),
    "a serial port's file is not there": Broken(
        code="HOST_FILE",
        extra="<serial type='file'><source path='/var/lib/libvirt/logs/web.out'/></serial>",
        made=source_directory,
    ),
    "pinned to a CPU that is not there": Broken(
        code="NUMA_PINNED",
        elements="<cputune><vcpupin vcpu='0' cpuset='63'/></cputune>",
        modes=(OFF,),
    ),
    "pinned to a NUMA node that is not there": Broken(
        code="NUMA_PINNED",
        elements="<numatune><memory mode='strict' nodeset='7'/></numatune>",
        modes=(OFF,),
    ),
    "huge pages": Broken(
        code="HUGE_PAGES_SHORT",
        elements="<memoryBacking><hugepages/></memoryBacking>",
        modes=(OFF,),
    ),
    "no USB device of that kind": Broken(
        code="HOST_DEVICE",
        extra="<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/>"
        "<product id='0x5678'/></source></hostdev><controller type='usb' model='qemu-xhci'/>",
        modes=(OFF,),
    ),
    "no PCI device at that address": Broken(
        code="HOST_DEVICE",
        extra="<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        "<address domain='0' bus='0x7f' slot='1' function='0'/></source></hostdev>",
        modes=(OFF,),
    ),
    "no mediated device": Broken(
        code="HOST_DEVICE",
        extra="<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
        "<address uuid='11111111-2222-4333-8444-555555555555'/></source></hostdev>",
        modes=(OFF,),
    ),
    "shared memory": Broken(
        code="VM_TIED_TO_HOST",
        extra="<shmem name='web'><model type='ivshmem-plain'/><size unit='M'>1</size></shmem>",
        modes=(LIVE, PAUSED),
    ),
    "a transient disk": Broken(
        code="VM_TIED_TO_HOST",
        extra="<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source file='{IMAGES}/more.qcow2'/><target dev='vdx' bus='virtio'/><transient/></disk>",
        made=spare_disk,
        modes=(LIVE, PAUSED),
    ),
    "a copy of its disk is under way": Broken(
        code="VM_BLOCK_JOB", late=block_job, modes=(LIVE, PAUSED)
    ),
    "a backup is under way": Broken(code="VM_JOB", late=backup_job, modes=(LIVE, PAUSED)),
    "a snapshot": Broken(code="VM_SNAPSHOTS", late=snapshot, modes=(LIVE, PAUSED)),
    "a file of that name": Broken(code="DISK_EXISTS", late=taken_file),
}
