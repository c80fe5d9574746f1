"""The Debian guest: a real Debian 12 with systemd, sshd and the QEMU agent, for sealing.

Built once by mmdebstrap with this machine's own way to Debian's archive, kept below the lab's cache
under a name made of the recipe, and copied for each guest. It boots by the lab's own kernel loading
(no boot loader): kernel and a small initramfs of ours lie beside the image. No filesystem is
mounted by this machine's kernel to make it.

Sources: mmdebstrap(1), mke2fs(8) (``-d``), switch_root(8), systemd.special(7).
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinship_lab.errors import LabBusy, LabError, NotReady
from twinship_lab.guests.initramfs import archive
from twinship_lab.guests.kernel import find_kernel
from twinship_lab.host import LabHost
from twinship_lab.programs import run, wait_until

SUITE = "bookworm"
PACKAGES = (
    "dbus",
    "iproute2",
    "linux-image-cloud-amd64",
    "openssh-server",
    "qemu-guest-agent",
    "systemd",
    "systemd-sysv",
    "udev",
)
DISK_BYTES = 2 * 1024**3
MODULES = ("virtio_pci", "virtio_blk", "ext4")
"""What the kernel needs to see its root."""
COMMAND_LINE = (
    "root=/dev/vda console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable "
    "no_timer_check systemd.show_status=false panic=1"
)
FILES: Mapping[str, str] = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "installed\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tinstalled\n",
    "etc/resolv.conf": "",  # mmdebstrap leaves this machine's
    "etc/systemd/network/20-wired.network": "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n"
    "LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
}
ENABLED = {
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": (
        "/lib/systemd/system/systemd-networkd.service"
    ),
    "etc/systemd/system/sockets.target.wants/systemd-networkd.socket": (
        "/lib/systemd/system/systemd-networkd.socket"
    ),
}
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-timesyncd.service",
)
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
while read module; do /bin/busybox insmod /modules/$module; done < /modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do
    tries=$((tries + 1)); /bin/busybox usleep 50000
done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox sh
/bin/busybox umount /proc /sys
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""
_BUILD_S = 900.0
_WORK = "building-"
# What mmdebstrap mounts in the tree and starts there ends with us, however we end.
_ENDS_WITH_US = (
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
)  # fmt: skip
_AGENT_S = 10.0
_READ_S = 60.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class DebianGuest:
    """Where its parts are; the same paths on every lab host."""

    kernel: Path
    initrd: Path
    image: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells a booted guest from another one, read in it."""

    hostname: str
    machine_id: str
    boot_id: str
    product_uuid: str
    host_keys: tuple[str, ...]
    macs: tuple[str, ...]
    addresses: tuple[str, ...]
    client_id: str
    random_seed: str


def build_debian(cache: Path) -> DebianGuest:
    """Makes the guest's parts below ``cache``, once; another process that builds is waited for.

    What a killed build left is removed by the next one. Raises :class:`NotReady` without
    mmdebstrap, :class:`LabBusy` when the other one does not end, and :class:`LabError` with what
    failed.
    """
    busybox = shutil.which("busybox")
    if shutil.which("mmdebstrap") is None or busybox is None:
        raise NotReady(
            "the Debian guest cannot be built here",
            cause="mmdebstrap or busybox is not installed",
            hint="script/bootstrap installs them, on Debian",
        )
    recipe = json.dumps([SUITE, PACKAGES, DISK_BYTES, MODULES, FILES, ENABLED, MASKED, INIT])
    place = cache / f"debian-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    guest = DebianGuest(place / "vmlinuz", place / "initrd", place / "disk.qcow2")
    with _alone(cache / "debian.lock"):
        if not guest.image.exists():
            for left in cache.glob(f"{_WORK}*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(dir=cache, prefix=_WORK) as work:
                _build(Path(work), Path(busybox), guest)
    return guest


def _build(work: Path, busybox: Path, guest: DebianGuest) -> None:
    tree, made = work / "tree", work / "made"
    made.mkdir()
    slim = [
        f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")
    ]
    run(
        [*_ENDS_WITH_US, "mmdebstrap", "--quiet", "--mode=root", "--variant=apt",
         "--format=directory", f"--include={','.join(PACKAGES)}",
         '--aptopt=Acquire::Languages "none"', *slim, SUITE, str(tree)],
        timeout_s=_BUILD_S,
    )  # fmt: skip
    kernel = find_kernel(tree, MODULES)
    modules = {f"modules/{path.name}": path.read_bytes() for path in kernel.modules}
    order = "".join(f"{path.name}\n" for path in kernel.modules)
    files = {
        "init": INIT.encode(),
        "bin/busybox": busybox.read_bytes(),
        "modules/order": order.encode(),
        "root/.keep": b"",
    }
    (made / "initrd").write_bytes(archive(files | modules))
    shutil.copyfile(kernel.image, made / "vmlinuz")
    _settle(tree)
    raw = work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(DISK_BYTES)
    run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(raw)], timeout_s=_BUILD_S)
    run(
        ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(raw),
         str(made / "disk.qcow2")],
        timeout_s=_BUILD_S,
    )  # fmt: skip
    made.chmod(0o755)  # QEMU reads it as another user
    made.rename(guest.image.parent)


def _settle(tree: Path) -> None:
    """What makes the installed system the lab's guest."""
    for image in (tree / "boot").glob("initrd.img*"):
        image.unlink()  # ours is used
    for path, text in FILES.items():
        (tree / path).write_text(text)
    for path, target in ENABLED.items():
        link = tree / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    for unit in MASKED:
        link = tree / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not wait_until(lambda: _locked(fd), within_s=_BUILD_S):
            raise LabBusy("another process builds the Debian guest", hint="try again later")
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_agent(host: LabHost, name: str, *, within_s: float) -> None:
    """Waits until the guest's agent answers. Raises :class:`LabError` when it does not in time."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            _agent(host, name, {"execute": "guest-ping"})
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def wait_settled(host: LabHost, name: str, *, within_s: float) -> Identity:
    """Waits until the guest is up, with its keys made and, if it has a card, an address.

    Raises :class:`LabError` when it is not in time.
    """
    deadline = time.monotonic() + within_s
    wait_agent(host, name, within_s=within_s)
    while True:
        left_s = deadline - time.monotonic()
        found = identity(host, name, within_s=max(left_s, _READ_S))
        if found.host_keys and (found.addresses or not found.macs):
            return found
        if time.monotonic() > deadline:
            raise LabError(f"{name} has not settled within {within_s:g} s", cause=str(found))
        time.sleep(_POLL_S)


def run_inside(host: LabHost, name: str, argv: Sequence[str], *, within_s: float = _READ_S) -> str:
    """Runs a program in the guest, by its agent; what it printed. Raises :class:`LabError`."""
    started = _agent(
        host,
        name,
        {
            "execute": "guest-exec",
            "arguments": {"path": argv[0], "arg": list(argv[1:]), "capture-output": True},
        },
    )
    deadline = time.monotonic() + within_s
    while True:
        status = _agent(
            host,
            name,
            {"execute": "guest-exec-status", "arguments": {"pid": started["pid"]}},
        )
        if status["exited"]:
            break
        if time.monotonic() > deadline:
            raise LabError(f"{argv[0]} in {name} did not end within {within_s:g} s")
        time.sleep(_POLL_S)
    said = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
    if status.get("exitcode") != 0:
        errors = base64.b64decode(status.get("err-data", "")).decode(errors="replace")
        raise LabError(f"{argv[0]} in {name} ended with {status.get('exitcode')}", cause=errors)
    return said


_READ = r"""
for file in /etc/machine-id /proc/sys/kernel/random/boot_id /sys/class/dmi/id/product_uuid; do
    cat $file; echo
done
cat /proc/sys/kernel/hostname
echo == keys; cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null
echo == macs; cat /sys/class/net/e*/address
echo == addresses; ip -4 -o addr show scope global | sed 's/.*inet \([^ ]*\).*/\1/'
echo == client; cat /run/systemd/netif/leases/* 2>/dev/null | grep CLIENTID
echo == seed; sha256sum /var/lib/systemd/random-seed 2>/dev/null
"""


def identity(host: LabHost, name: str, *, within_s: float = _READ_S) -> Identity:
    """What is the guest's own, read in it while it runs."""
    text = run_inside(host, name, ["/bin/sh", "-c", _READ], within_s=within_s)
    parts: dict[str, list[str]] = {"": []}
    here = ""
    for line in text.splitlines():
        if line.startswith("== "):
            here = line.removeprefix("== ")
            parts[here] = []
        elif line.strip():
            parts[here].append(line.strip())
    machine_id, boot_id, product_uuid, hostname = (*parts[""], "", "", "", "")[:4]
    return Identity(
        hostname=hostname,
        machine_id=machine_id,
        boot_id=boot_id,
        product_uuid=product_uuid.lower(),
        host_keys=tuple(line.split()[1] for line in parts["keys"]),
        macs=tuple(parts["macs"]),
        addresses=tuple(parts["addresses"]),
        client_id=next(iter(parts["client"]), "").partition("=")[2],
        random_seed=next(iter(parts["seed"]), "").split(" ")[0],
    )


def _agent(host: LabHost, name: str, command: Mapping[str, object]) -> dict[str, Any]:
    done = host.run(
        ["virsh", "-q", "qemu-agent-command", "--timeout", str(int(_AGENT_S)), "--domain", name,
         json.dumps(command)]
    )  # fmt: skip
    answer = json.loads(done.text)["return"]
    return answer if isinstance(answer, dict) else {}
