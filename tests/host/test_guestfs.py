"""A guest's files on real disk images: the user-space way, the appliance, and hostile images."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.guest_trees import DEBIAN, REDHAT, make_tree
from twinship.guestfs import appliance, userspace
from twinship.guestfs.files import GuestFiles, GuestFilesError
from twinship.guestfs.image import Image, an_image
from twinship.guestfs.inspect import GuestRefused, identify, problems
from twinship.guestfs.ladder import visit
from twinship.guestfs.sealing import Manifest, apply_seal, choose, load_own, plan_seal
from twinship_lab.state import DEFAULT_ROOT, DIRECTORY_VARIABLE

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts of one's own need root"),
]

MIB = 1024 * 1024
PV_SECTOR = 32 * 2048
LABEL = b"system_u:object_r:net_conf_t:s0"
PLAIN = {name: text for name, text in DEBIAN.items() if name != "etc/fstab"}


def tool(*argv: str | Path, input: bytes | None = None) -> bytes:
    done = subprocess.run(
        [str(word) for word in argv], check=False, input=input, capture_output=True
    )
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Bench:
    """Makes disk images in a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def tree(self, name: str, files: Mapping[str, str] = PLAIN) -> Path:
        root = make_tree(self.place / name, files)
        if (root / "etc/hosts").exists():
            os.setxattr(root / "etc", "security.selinux", b"system_u:object_r:etc_t:s0")
            os.setxattr(root / "etc/hosts", "security.selinux", LABEL)
            os.chown(root / "etc/hosts", 7, 8)
        return root

    def ext4(self, tree: Path, *, name: str = "disk.raw", mib: int = 64, offset: int = 0) -> Path:
        """An ext4 made of a tree; with an offset, in an image that has room before and after it."""
        path = self.place / name
        with path.open("ab") as file:
            file.truncate(offset + (mib + 1) * MIB if offset else mib * MIB)
        more = ["-E", f"offset={offset}"] if offset else []
        tool("mke2fs", "-q", "-F", "-t", "ext4", *more, "-d", tree, path, f"{mib}M")
        return path

    def qcow2(self, raw: Path, name: str = "disk.qcow2") -> Path:
        tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, self.place / name)
        return self.place / name


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    assert not processes(), "programs are left"
    assert "twinship-guest" not in Path("/proc/self/mounts").read_text()


def processes() -> list[str]:
    """Programs of ours that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(b"twinship-guest-" in word or word == b"twinship.guestfs.worker" for word in words):
            found.append(b" ".join(words).decode())
    return found


def eventually_gone(within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while processes() and time.monotonic() < end:
        time.sleep(0.02)
    return not processes()


def seal(image: Image) -> Manifest:
    """By user space."""
    with userspace.opened([image], writable=True) as files:
        return apply_seal(files, identify(files), choose())


def plan(image: Image) -> Manifest:
    with userspace.opened([image], writable=False) as files:
        return plan_seal(files, identify(files), choose())


def code_of(image: Image, **how: bool) -> str:
    with (
        pytest.raises((GuestFilesError, GuestRefused)) as error,
        userspace.opened([image], **{"writable": True, **how}),
    ):
        pass
    return error.value.code


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_plain_ext4_is_sealed_in_user_space(bench: Bench, format: str) -> None:
    raw = bench.ext4(bench.tree("guest"))
    disk = raw if format == "raw" else bench.qcow2(raw)
    image = an_image(disk, format)
    before = fingerprint(disk)

    planned = plan(image)

    assert fingerprint(disk) == before
    assert len(planned.entries) > 30
    assert seal(image) == planned
    assert seal(image).entries == ()
    with userspace.opened([image], writable=False) as files:
        assert files.read("/etc/machine-id") == b""
        assert files.read("/home/ann/notes") == b"mine\n"
        assert not problems(files, identify(files))
    if format == "qcow2":
        tool("qemu-img", "check", disk)
        tool("qemu-img", "convert", "-O", "raw", disk, raw)
    tool("e2fsck", "-fn", raw)


def test_owner_mode_and_label_of_what_is_edited_stay(bench: Bench) -> None:
    raw = bench.ext4(bench.tree("guest"))

    seal(an_image(raw, "raw"))

    shown = tool("debugfs", "-R", "stat /etc/hosts", raw).decode()
    assert "User:     7   Group:     8" in shown
    assert LABEL in tool("debugfs", "-R", "ea_get /etc/hosts security.selinux", raw)
    unit = "/etc/systemd/system/twinship-ssh-host-keys.service"
    assert b"ExecStart" in tool("debugfs", "-R", f"cat {unit}", raw)


@pytest.mark.parametrize("table", ["gpt", "dos"])
def test_a_root_in_a_partition_is_found(bench: Bench, table: str) -> None:
    disk = bench.ext4(bench.tree("guest"), offset=8 * MIB)
    script = f"label: {table}\nstart=2048, size=2048\nstart={8 * 2048}, size={64 * 2048}\n"
    tool("sfdisk", "--no-reread", "--no-tell-kernel", disk, input=script.encode())

    assert seal(an_image(disk, "raw")).entries
    assert plan(an_image(disk, "raw")).entries == ()
    tool("e2fsck", "-fn", f"{disk}?offset={8 * MIB}")


def test_an_overlay_is_sealed_and_what_lies_below_it_stays(bench: Bench) -> None:
    base = bench.qcow2(bench.ext4(bench.tree("guest")))
    top = bench.place / "top.qcow2"
    tool("qemu-img", "create", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    before = fingerprint(base)

    assert seal(an_image(top, "qcow2", (base, "qcow2"))).entries
    assert fingerprint(base) == before
    assert plan(an_image(top, "qcow2", (base, "qcow2"))).entries == ()
    assert plan(an_image(base, "qcow2")).entries


def test_a_backing_file_that_was_not_listed_is_not_opened(bench: Bench) -> None:
    base = bench.ext4(bench.tree("guest"))
    top = bench.place / "top.qcow2"
    tool("qemu-img", "create", "-f", "qcow2", "-b", base, "-F", "raw", top)

    assert code_of(an_image(top, "qcow2")) == "IMAGE_REFUSED"
    assert code_of(an_image(base, "raw", (top, "qcow2"))) == "IMAGE_REFUSED"
    assert code_of(an_image(base, "qcow2")) == "IMAGE_REFUSED"
    assert code_of(an_image(base, "vmdk")) == "IMAGE_REFUSED"


def test_a_disk_that_a_vm_has_is_not_opened(bench: Bench) -> None:
    raw = bench.ext4(bench.tree("guest"))
    disk = f"file={raw},format=raw,if=virtio"
    with subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-S", "-drive", disk,
         "-qmp", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as vm:  # fmt: skip
        try:
            assert vm.stdout is not None
            assert vm.stdin is not None
            assert b"QMP" in vm.stdout.readline()
            vm.stdin.write(b'{"execute": "qmp_capabilities"}\n')
            vm.stdin.flush()
            assert b"return" in vm.stdout.readline(), "its drives are open by now"
            assert code_of(an_image(raw, "raw")) == "IMAGE_IN_USE"
        finally:
            vm.kill()
    assert seal(an_image(raw, "raw")).entries


def test_an_image_has_one_session_that_writes(bench: Bench) -> None:
    image = an_image(bench.qcow2(bench.ext4(bench.tree("guest"))), "qcow2")

    with userspace.opened([image], writable=True):
        assert code_of(image) == "IMAGE_IN_USE"


def test_a_guest_that_was_not_shut_down_is_refused_unless_recovery_is_asked_for(
    bench: Bench,
) -> None:
    raw = bench.ext4(bench.tree("guest"))
    tool("debugfs", "-w", "-R", "feature +needs_recovery", raw)
    image = an_image(raw, "raw")
    before = fingerprint(raw)

    assert code_of(image) == "FILESYSTEM_DIRTY"
    assert code_of(image, writable=False, recover=True) == "FILESYSTEM_DIRTY"
    assert fingerprint(raw) == before
    with userspace.opened([image], writable=True, recover=True) as files:
        apply_seal(files, identify(files), choose())
    tool("e2fsck", "-fn", raw)


@pytest.mark.parametrize(
    ("content", "at", "code"),
    [
        (b"", 0, "NO_FILESYSTEM"),
        (b"\xeb\x52\x90NTFS    ", 0, "GUEST_IS_WINDOWS"),
        (b"S1SUSPEND\0", 4086, "GUEST_HIBERNATED"),
        (b"XFSB", 0, "NEEDS_APPLIANCE"),
        (b"LUKS\xba\xbe", 0, "NEEDS_APPLIANCE"),
        (b"LABELONE", 512, "NEEDS_APPLIANCE"),
    ],
)
def test_what_cannot_be_sealed_says_why(bench: Bench, content: bytes, at: int, code: str) -> None:
    disk = bench.place / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(at)
        file.write(content)

    assert code_of(an_image(disk, "raw")) == code


def test_filesystems_that_say_nothing_of_a_guest_are_left_alone(bench: Bench) -> None:
    plain = bench.ext4(bench.tree("data", {"srv/data": "x"}), name="data.raw")
    fstab = {"etc/fstab": "/dev/vda1 / ext4 x 0 0\n/dev/vda2 /var ext4 x 0 0\n"}
    split = bench.ext4(bench.tree("guest", {**DEBIAN, **fstab}))

    assert code_of(an_image(plain, "raw")) == "GUEST_UNKNOWN"
    assert code_of(an_image(split, "raw")) == "NEEDS_APPLIANCE"


def test_a_full_filesystem_is_seen(bench: Bench) -> None:
    tree = bench.tree("guest")
    (tree / "srv").mkdir()
    (tree / "srv/fill").write_bytes(b"x" * 12 * MIB)
    raw = bench.ext4(tree, mib=16)
    with userspace.opened([an_image(raw, "raw")], writable=True) as files:
        assert not problems(files, identify(files))
        files.write("/srv/more", b"x" * (files.space().free_bytes - 256 * 1024))
        codes = [item.code for item in problems(files, identify(files))]
    assert codes == ["FILESYSTEM_FULL"]


def hostile_tree(bench: Bench) -> tuple[Path, Path]:
    """A guest that would like to have the host sealed, and what of the host it aims at."""
    victim = bench.place / "victim"
    victim.mkdir()
    (victim / "ssh_host_rsa_key").write_text("the host's")
    tree = bench.tree("guest", {k: v for k, v in PLAIN.items() if not k.startswith("etc/ssh/")})
    (tree / "etc/ssh").symlink_to(victim)
    (tree / "var/log/out").symlink_to(victim)
    (tree / "var/log/loop.log").symlink_to("loop.log")
    (tree / "etc/hosts").unlink()
    (tree / "etc/hosts").symlink_to("../../../../../../../../../../.." + str(victim / "x"))
    (tree / "tmp/new\nline").write_text("x")
    os.mkfifo(tree / "var/log/pipe.log")
    os.mknod(tree / "var/log/disk.log", 0o600 | 0o060000, os.makedev(7, 0))
    with (tree / "var/log/huge.log").open("wb") as file:
        file.truncate(1 << 40)
    return tree, victim


def test_a_hostile_image_does_no_harm(bench: Bench) -> None:
    tree, victim = hostile_tree(bench)
    raw = bench.ext4(tree)

    manifest = seal(an_image(raw, "raw"))

    assert (victim / "ssh_host_rsa_key").read_text() == "the host's"
    assert [path.name for path in victim.iterdir()] == ["ssh_host_rsa_key"]
    paths = {entry.path for entry in manifest.entries}
    assert "/tmp/new\nline" in paths
    assert "/var/log/huge.log" in paths
    assert not {"/etc/hosts", "/var/log/pipe.log", "/var/log/disk.log"} & paths
    tool("e2fsck", "-fn", raw)


def test_a_broken_filesystem_is_an_error_not_a_wait(bench: Bench) -> None:
    raw = bench.ext4(bench.tree("guest"))
    shown = tool("dumpe2fs", raw).decode()
    block_bytes, first_table = (
        int(re.findall(pattern, shown)[0])
        for pattern in (r"Block size: +(\d+)", r"Inode table at (\d+)-")
    )
    with raw.open("r+b") as file:
        file.seek(first_table * block_bytes + 12 * 256)
        file.write(b"\xa5" * (64 * 256))
    before = time.monotonic()
    with (
        pytest.raises((GuestFilesError, GuestRefused)),
        userspace.opened([an_image(raw, "raw")], writable=True) as files,
    ):
        apply_seal(files, identify(files), choose())
    assert time.monotonic() - before < 20


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error(bench: Bench, error: type[BaseException]) -> None:
    raw = bench.ext4(bench.tree("guest"))
    image = an_image(raw, "raw")
    with pytest.raises(error), userspace.opened([image], writable=True) as files:  # noqa: PT012
        files.truncate("/etc/machine-id")
        raise error
    assert not processes()
    tool("e2fsck", "-fn", raw)


def test_nothing_is_left_of_a_controller_that_was_killed(bench: Bench) -> None:
    raw = bench.ext4(bench.tree("guest"))
    script = (
        "import sys\n"
        "from twinship.guestfs import userspace\n"
        "from twinship.guestfs.image import an_image\n"
        "with userspace.opened([an_image(sys.argv[1], 'raw')], writable=True):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(raw)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        assert len(processes()) >= 2
        child.send_signal(signal.SIGKILL)
    assert eventually_gone()
    image = an_image(raw, "raw")
    assert code_of(image) == "FILESYSTEM_DIRTY"
    with userspace.opened([image], writable=True, recover=True) as files:
        assert sealed(files).entries
    tool("e2fsck", "-fn", raw)


def test_a_session_has_an_end(bench: Bench) -> None:
    image = an_image(bench.ext4(bench.tree("guest")), "raw")
    end = time.monotonic() + 20
    with (  # noqa: PT012
        pytest.raises(GuestFilesError),
        userspace.opened([image], writable=False, session_s=0.5) as files,
    ):
        while time.monotonic() < end:
            files.read("/etc/machine-id")
            time.sleep(0.02)
    assert time.monotonic() < end


@pytest.fixture
def tcg(monkeypatch: pytest.MonkeyPatch) -> None:
    """libguestfs without acceleration, with the kernel that bootstrap fetched if there is no other.

    Its KVM probe would hang where no Linux guest boots under KVM.
    """
    pytest.importorskip("ctypes")
    if not appliance.installed():
        pytest.skip("libguestfs is not installed")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    if list(Path("/boot").glob("vmlinuz-*")) or "SUPERMIN_KERNEL" in os.environ:
        return
    cache = Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_ROOT) / "cache/appliance"
    kernels = list(cache.glob("boot/vmlinuz-*"))
    if not kernels:
        pytest.skip("no kernel for the appliance: run script/bootstrap")
    version = kernels[0].name.removeprefix("vmlinuz-")
    monkeypatch.setenv("SUPERMIN_KERNEL", str(kernels[0]))
    monkeypatch.setenv("SUPERMIN_KERNEL_VERSION", version)
    monkeypatch.setenv("SUPERMIN_MODULES", str(cache / "lib/modules" / version))


def sealed(files: GuestFiles) -> Manifest:
    return apply_seal(files, identify(files), choose())


@pytest.mark.all
@pytest.mark.usefixtures("tcg")
def test_the_appliance_does_the_same_file_by_file(bench: Bench) -> None:
    tree, victim = hostile_tree(bench)
    plain = bench.ext4(bench.tree("plain"), name="plain.raw")
    hostile = bench.qcow2(bench.ext4(tree), "hostile.qcow2")
    images = [an_image(plain, "raw"), an_image(hostile, "qcow2")]
    wanted = [plan(image) for image in images]
    before = [fingerprint(plain), fingerprint(hostile)]

    with appliance.appliance([[image] for image in images], writable=False) as made:
        for index, manifest in enumerate(wanted):
            with made.guest(index) as files:
                assert plan_seal(files, identify(files), choose()) == manifest

    assert [fingerprint(plain), fingerprint(hostile)] == before
    with appliance.appliance([[image] for image in images], writable=True) as made:
        for index, manifest in enumerate(wanted):
            with made.guest(index) as files:
                assert sealed(files) == manifest
    assert [plan(image).entries for image in images] == [(), ()]
    assert (victim / "ssh_host_rsa_key").read_text() == "the host's"
    assert LABEL in tool("debugfs", "-R", "ea_get /etc/hosts security.selinux", plain)
    tool("e2fsck", "-fn", plain)


@pytest.mark.all
@pytest.mark.usefixtures("tcg")
def test_the_appliance_reads_lvm_luks_and_runs_programs(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        "etc/fstab": "/dev/mapper/vg-root / ext4 x 0 0\n/dev/vg/var /var ext4 x 0 0\n"
        "/dev/sda1 /boot ext4 x 0 0\n",
        "etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=targeted\n",
        "etc/selinux/targeted/contexts/files/file_contexts": "/.* system_u:object_r:root_t:s0\n",
    }
    tree = bench.tree("guest", {**REDHAT, **more})
    (tree / "boot").mkdir(exist_ok=True)
    busybox = tree / "bin/busybox"
    busybox.parent.mkdir()
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    var = tree / "var"
    archive, var_archive = tmp_path / "root.tar", tmp_path / "var.tar"
    tool("tar", "-C", tree, "--exclude=./var/*", "-cf", archive, ".")
    tool("tar", "-C", var, "-cf", var_archive, ".")
    lvm = tmp_path / "lvm.raw"
    script = (
        f"sparse {lvm} 500M\nrun\npart-init /dev/sda gpt\n"
        f"part-add /dev/sda p 2048 {PV_SECTOR - 1}\npart-add /dev/sda p {PV_SECTOR} -2048\n"
        "mkfs ext4 /dev/sda1\npvcreate /dev/sda2\nvgcreate vg /dev/sda2\n"
        "lvcreate root vg 96\nlvcreate var vg 320\nmkfs ext4 /dev/vg/root\n"
        f"mkfs xfs /dev/vg/var\nmount /dev/vg/root /\ntar-in {archive} /\n"
        f"mount /dev/vg/var /var\ntar-in {var_archive} /var\n"
    )
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    tool("guestfish", input=script.encode())
    twin = tmp_path / "twin.raw"
    twin.write_bytes(lvm.read_bytes())
    locked = tmp_path / "locked.raw"
    key = tmp_path / "key"
    key.write_text("correct horse")
    tool("qemu-img", "convert", "-f", "raw", "-O", "luks", "--object",
         f"secret,id=k,file={key}", "-o", "key-secret=k,iter-time=10",
         bench.ext4(bench.tree("locked-tree")), locked)  # fmt: skip
    own = tmp_path / "own.toml"
    own.write_text("[stamp]\nrun = [['/bin/busybox', 'touch', '/etc/stamped']]\n")
    images = [[an_image(path, "raw")] for path in (lvm, twin, locked)]
    assert userspace_refusal(images[0][0]) == "NEEDS_APPLIANCE"
    before = pv_uuid(lvm)

    with appliance.appliance(images, writable=True) as made:
        with made.guest(0) as files:
            manifest = apply_seal(files, identify(files), choose(own=load_own(own)))
            assert "/etc/lvm/devices/system.devices" in {entry.path for entry in manifest.entries}
            assert "volume group vg" in {entry.path for entry in manifest.entries}
            assert files.lstat("/etc/stamped") is not None
        with made.guest(1) as files:
            assert files.lstat("/etc/stamped") is None
            assert files.read("/etc/machine-id") != b""
        for keys, code in (({}, "KEY_MISSING"), ({"": "wrong"}, "KEY_WRONG")):
            with pytest.raises(GuestRefused) as error, made.guest(2, keys):
                pass
            assert error.value.code == code
        with made.guest(2, {"": key.read_text()}) as files:
            assert sealed(files).entries

    assert pv_uuid(lvm) != before == pv_uuid(twin)
    reasons: list[str] = []
    (found,) = visit(
        images[:1], lambda files: files.read("/etc/machine-id"), writable=False, say=reasons.append
    )
    assert (found.value, found.engine) == (b"", "appliance")
    assert reasons == ["the guest's disks hold lvm"]
    (left,) = visit(images[:1], lambda files: files.read("/etc/machine-id"), writable=False)
    assert (left.value, left.why) == (None, "the guest's disks hold lvm")


def pv_uuid(image: Path) -> bytes:
    """Of the LVM on the second partition. Source: lvm2's label.h and layout.h."""
    with image.open("rb") as file:
        file.seek(PV_SECTOR * 512)
        label = file.read(2048)
    return label[label.index(b"LABELONE") + 32 :][:32]


def userspace_refusal(image: Image) -> str:
    return code_of(image, writable=False)
