"""Sealing, without a disk: edits, selection, own operations, and a guest that means ill."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guest_trees import DEBIAN, REDHAT, make_tree, tree_files
from twinship.guestfs.files import FileKind, GuestFilesError, VolumeGroups, shown
from twinship.guestfs.inspect import (
    Family,
    Guest,
    GuestKind,
    GuestRefused,
    disk_refusal,
    identify,
    own_mount_points,
    problems,
)
from twinship.guestfs.layout import Content, Part, read_layout
from twinship.guestfs.sealing import (
    TABLE,
    Action,
    Manifest,
    Operation,
    apply_seal,
    choose,
    load_own,
    needs_appliance,
    plan_seal,
)
from twinship.guestfs.sealing.asked import without_members, without_users
from twinship.guestfs.sealing.edits import (
    Edit,
    without_ini_keys,
    without_own_name,
    without_shell_keys,
    without_yaml_match,
)
from twinship.guestfs.sealing.profiles import dhcp_ifcfg, dhcp_keyfile
from twinship.model.errors import UsageError

DEBIAN_GUEST = Guest(kind=GuestKind.LINUX, id="debian", family=Family.DEBIAN, systemd=True)
EVERYTHING = choose(also=[row.name for row in TABLE])

EDITS: Sequence[Edit] = (
    without_shell_keys("HWADDR", "UUID"),
    without_ini_keys({("connection", "uuid"), ("ethernet", "mac-address")}),
    without_own_name({"web1.example.org"}),
    without_yaml_match,
    without_users({b"ann"}),
    without_members({b"ann"}),
    dhcp_keyfile,
    dhcp_ifcfg,
)
LINES = st.sampled_from(
    [b"[connection]", b"[ipv4]", b"[ethernet]", b"uuid=1", b"UUID = 2", b"method=manual", b"",
     b"address1=10.0.0.5/24", b"HWADDR=52:54:00:00:00:01", b"IPADDR=10.0.0.5", b"BOOTPROTO=none",
     b"  match:", b"    macaddress: x", b"  set-name: ens3", b"127.0.1.1 web1", b"# comment",
     b"10.0.0.1 web1 db # us", b"ann:x:1000:1000::/home/ann:/bin/sh", b"sudo:x:27:ann,bob",
     b"\xff\xfe", b"key", b"=", b"\t"]
)  # fmt: skip


def debian(tmp_path: Path, **more: str) -> Path:
    return make_tree(tmp_path / "guest", {**DEBIAN, **more})


def sealed(root: Path, operations: Sequence[Operation] = choose()) -> Manifest:
    with tree_files(root) as files:
        return apply_seal(files, identify(files), operations)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def read(root: Path, name: str) -> str:
    return (root / name).read_text()


@settings(max_examples=25)
@given(st.lists(LINES), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_an_edit_done_twice_is_done_once(lines: list[bytes], end: bytes, last: bool) -> None:
    data = end.join(lines) + (end if last else b"")
    for edit in EDITS:
        assert edit(edit(data)) == edit(data)


@settings(max_examples=25)
@given(st.binary(max_size=200))
def test_an_edit_leaves_alone_what_it_does_not_understand(data: bytes) -> None:
    junk = data.translate(None, b"=:0123456789")
    for edit in EDITS:
        assert edit(junk) == junk


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (without_shell_keys("UUID"), b"A=1\nUUID=x\nUUIDS=y\n", b"A=1\nUUIDS=y\n"),
        (
            without_own_name({"web1.example.org"}),
            b"127.0.0.1 localhost web1\n10.0.0.1\tWEB1 # us\n10.0.0.2 db\n",
            b"127.0.0.1\tlocalhost\n10.0.0.2 db\n",
        ),
        (without_own_name({"localhost"}), b"127.0.0.1 localhost\n", b"127.0.0.1 localhost\n"),
        (
            without_yaml_match,
            b"ens3:\n  dhcp4: true\n  match:\n    macaddress: x\n  set-name: ens3\n",
            b"ens3:\n  dhcp4: true\n",
        ),
        (
            without_yaml_match,
            b"ens3:\n  match:\n    macaddress: x\n    driver: virtio\n  set-name: e\n",
            b"ens3:\n  match:\n    driver: virtio\n  set-name: e\n",
        ),
        (
            dhcp_keyfile,
            b"[ipv4]\nmethod=manual\naddress1=10.0.0.5/24\ndns=1;\n[ipv6]\nmethod=auto\naddress1=x\n",
            b"[ipv4]\nmethod=auto\ndns=1;\n[ipv6]\nmethod=auto\naddress1=x\n",
        ),
        (dhcp_ifcfg, b"DEVICE=lo\nIPADDR=127.0.0.1\n", b"DEVICE=lo\nIPADDR=127.0.0.1\n"),
        (dhcp_ifcfg, b"IPADDR0=10.0.0.5\nDNS1=1", b"DNS1=1\nBOOTPROTO=dhcp\n"),
        (without_members({b"ann"}), b"a:x:1:ann,bob\nann:x:2:\n", b"a:x:1:bob\n"),
    ],
)
def test_an_edit_takes_just_the_identity(edit: Edit, before: bytes, after: bytes) -> None:
    assert edit(before) == after


def test_a_debian_guest_loses_what_tells_it_from_another(tmp_path: Path) -> None:
    root = debian(tmp_path)

    manifest = sealed(root)

    assert read(root, "etc/machine-id") == ""
    assert (root / "var/lib/dbus/machine-id").is_symlink()
    assert not (root / "etc/hostname").exists()
    assert read(root, "etc/hosts") == "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n"
    assert read(root, "etc/iscsi/initiatorname.iscsi") == "GenerateName=yes\n"
    assert names(root / "var/lib/cloud") == ["seed"]
    assert names(root / "var/lib/NetworkManager") == ["NetworkManager-intern.conf"]
    assert read(root, "var/log/auth.log") == ""
    assert not (root / "var/log/auth.log.1").exists()
    assert names(root / "var/cache/apt/archives") == ["lock"]
    assert read(root, "home/ann/.ssh/authorized_keys").endswith("ann\n")
    assert read(root, "home/ann/notes") == "mine\n"
    assert "ann" in read(root, "etc/passwd")
    assert manifest.freed_bytes > 16000


def test_a_static_profile_stays_and_is_named(tmp_path: Path) -> None:
    root = debian(tmp_path)

    manifest = sealed(root)

    profile = read(root, "etc/NetworkManager/system-connections/wired.nmconnection")
    assert "id=wired" in profile
    assert "dns=10.0.0.1" in profile
    assert "method=auto" in profile
    assert not any(word in profile for word in ("uuid", "mac-address", "10.0.0.5"))
    told = [note.text for note in manifest.notes]
    assert any("wired.nmconnection had a static address" in text for text in told)
    assert any("/etc/network/interfaces has a static address" in text for text in told)


def test_host_keys_come_back_where_the_system_would_not_make_them(tmp_path: Path) -> None:
    root = debian(tmp_path)

    sealed(root)

    assert not list((root / "etc/ssh").glob("ssh_host_*"))
    wants = root / "etc/systemd/system/multi-user.target.wants/twinship-ssh-host-keys.service"
    assert "ssh-keygen -A" in wants.read_text()
    assert (root / "etc/systemd/system/multi-user.target.wants/keep").exists()


def test_red_hats_sshd_makes_its_keys_itself(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "guest", REDHAT)

    sealed(root)

    assert not (root / "etc/ssh/ssh_host_rsa_key").exists()
    assert not (root / "etc/systemd").exists()
    assert (root / "etc/lvm/devices/auto-import-rootvg").exists()
    assert not (root / "etc/lvm/devices/system.devices").exists()
    assert read(root, "etc/sysconfig/network-scripts/ifcfg-eth0").splitlines() == [
        "DEVICE=eth0", "BOOTPROTO=dhcp", "ONBOOT=yes"
    ]  # fmt: skip


def test_host_keys_stay_where_nothing_would_make_new_ones(tmp_path: Path) -> None:
    root = debian(tmp_path)
    (root / "usr/lib/systemd/systemd").unlink()

    manifest = sealed(root)

    assert (root / "etc/ssh/ssh_host_ed25519_key").exists()
    assert any("SSH host keys stay" in note.text for note in manifest.notes)


def test_encrypted_credentials_keep_their_secret(tmp_path: Path) -> None:
    root = debian(tmp_path, **{"etc/credstore.encrypted/db": "x"})

    manifest = sealed(root)

    assert (root / "var/lib/systemd/credential.secret").exists()
    assert any(note.operation == "credential-secret" for note in manifest.notes)


@pytest.mark.parametrize("operations", [choose(), EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("tree", [DEBIAN, REDHAT], ids=["debian", "redhat"])
def test_a_plan_writes_nothing_says_what_apply_does_and_then_nothing_is_left(
    tmp_path: Path, tree: dict[str, str], operations: Sequence[Operation]
) -> None:
    root = make_tree(tmp_path / "guest", tree)
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    with tree_files(root) as files:
        guest = identify(files)

        planned = plan_seal(files, guest, operations)

        assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before
        assert apply_seal(files, guest, operations) == planned
        assert planned.entries
        assert plan_seal(files, guest, operations).entries == ()


def test_users_go_only_when_asked_and_only_from_below_home(tmp_path: Path) -> None:
    root = debian(tmp_path)

    manifest = sealed(root, choose(only=["user-accounts"]))

    assert read(root, "etc/passwd").split(":")[0] == "root"
    assert "nobody" in read(root, "etc/passwd")
    assert "ann" not in read(root, "etc/passwd") + read(root, "etc/shadow")
    assert read(root, "etc/group") == "root:x:0:\nsudo:x:27:bob\n"
    assert not (root / "home/ann").exists()
    assert (root / "etc/hosts").exists()
    assert [note.text[:16] for note in manifest.notes] == ["the home / stays"]


def test_a_manifest_is_json_and_its_paths_are_printable(tmp_path: Path) -> None:
    root = debian(tmp_path, **{"tmp/a\nb\x1b[31m": "x"})
    Path(os.fsdecode(bytes(root) + b"/tmp/\xff")).write_text("y")

    document = sealed(root, choose(only=["tmp-files"])).to_json()

    assert [entry["path"] for entry in document["entries"]] == [
        "/tmp/.X11-unix", "/tmp/.X11-unix/X0", "/tmp/a\\nb\\x1b[31m", "/tmp/\\xff", "/var/tmp/thing"
    ]  # fmt: skip
    assert document["totals"] == [{"operation": "tmp-files", "paths": 5, "freed_bytes": 3}]
    assert shown("/etc/hosts") == "/etc/hosts"


def test_every_row_says_why_and_from_where() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert all(row.title and row.why and row.source for row in TABLE)
    assert all(row.paths for row in TABLE)
    assert all(path.startswith("/") for row in TABLE for path in row.paths)
    off = {row.name for row in TABLE if not row.default}
    assert {"user-accounts", "ssh-authorized-keys", "firewall-rules", "ca-certificates"} <= off


def test_operations_are_chosen_by_name() -> None:
    assert [row.name for row in choose(only=["logs", "machine-id"])] == ["machine-id", "logs"]
    assert "logs" not in {row.name for row in choose(except_=["logs"])}
    assert "user-accounts" in {row.name for row in choose(also=["user-accounts"])}
    assert choose(only=["all"], except_=["logs"]) == tuple(r for r in TABLE if r.name != "logs")
    with pytest.raises(UsageError) as error:
        choose(except_=["machineid"])
    assert error.value.code == "UNKNOWN_OPERATION"
    assert error.value.hint == "did you mean machine-id?"


OWN = r"""
[agent]
title = "our agent"
delete = ["/etc/agent/*.id"]
truncate = ["/etc/agent/state"]
edit = [{path = "/etc/agent/conf", match = "^name=(\\w)\\w*", replace = "name=\\1"}]
upload = [{from = "default.conf", to = "/etc/agent.d/new/default.conf", mode = "0640"}]
"""


def own(tmp_path: Path, text: str) -> tuple[Operation, ...]:
    (tmp_path / "default.conf").write_text("fresh\n")
    (tmp_path / "own.toml").write_text(text)
    return load_own(tmp_path)


def test_own_operations_delete_empty_edit_and_upload(tmp_path: Path) -> None:
    root = debian(
        tmp_path,
        **{"etc/agent/a.id": "1", "etc/agent/state": "2", "etc/agent/conf": "x\nname=web\n"},
    )

    manifest = sealed(root, choose(only=["agent"], own=own(tmp_path, OWN)))

    assert [(entry.action, entry.path) for entry in manifest.entries] == [
        (Action.WRITE, "/etc/agent.d/new/default.conf"),
        (Action.REMOVE, "/etc/agent/a.id"),
        (Action.EDIT, "/etc/agent/conf"),
        (Action.TRUNCATE, "/etc/agent/state"),
    ]
    assert read(root, "etc/agent/conf") == "x\nname=w\n"
    assert read(root, "etc/agent.d/new/default.conf") == "fresh\n"
    assert (root / "etc/agent.d/new/default.conf").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[logs]\ndelete=['/x']", "already"),
        ("[a]\nremove=['/x']", "unknown: remove"),
        ("[a]\ndelete=['x']", "absolute"),
        ("[a]\ndelete=['/*']", "absolute"),
        ("[a]\ndelete=['/a/../../x']", "absolute"),
        ("[a]\nedit=[{path='/x', match='(', replace=''}]", "'('"),
        ("[a]\nedit=[{path='/x', match='a', replace='\\2'}]", "group"),
        ("[a]\nupload=[{from='none', to='/x'}]", "No such file"),
        ("[a]\nrun=['reboot']", "list of words"),
        ("[a]\nrun=5", "list of lists"),
        ('[a]\ndelete=["/x\\u0000"]', "absolute"),
        ("[all]\ndelete=['/x']", "already"),
        ("[a]", "does nothing"),
        ("[A b]", "own.toml"),
        ("a", "own.toml"),
    ],
)
def test_an_own_operation_that_cannot_be_used_is_refused_at_once(
    tmp_path: Path, text: str, word: str
) -> None:
    with pytest.raises(UsageError) as error:
        own(tmp_path, text)
    assert error.value.code == "OWN_OPERATION"
    assert word in error.value.cause + error.value.message


def test_a_directory_without_operations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        load_own(tmp_path)
    assert error.value.code == "OWN_OPERATION"


def test_what_runs_in_the_guest_needs_the_appliance(tmp_path: Path) -> None:
    rows = own(tmp_path, "[a]\nrun=[['/bin/true', '-x']]")
    root = debian(tmp_path)

    assert needs_appliance(rows)
    with pytest.raises(GuestFilesError) as error:
        sealed(root, rows)
    assert error.value.code == "NEEDS_APPLIANCE"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What a hostile guest would like to have sealed: a directory of the host."""
    place = tmp_path / "outside"
    place.mkdir()
    for name in ("ssh_host_rsa_key", "machine-id", "auth.log", "hosts"):
        (place / name).write_text("the host's")
    return place


ESCAPES: Sequence[tuple[str, Callable[[Path], str]]] = [
    ("etc/ssh", str),
    ("var/log", lambda place: "../../../../../../../../../.." + str(place)),
    ("tmp", lambda place: f"{place}/."),
    ("etc", str),
]


@pytest.mark.parametrize(("name", "target"), ESCAPES)
def test_no_link_leads_out_of_the_guest(
    tmp_path: Path, outside: Path, name: str, target: Callable[[Path], str]
) -> None:
    root = tmp_path / "guest"
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(target(outside))
    before = sorted(outside.iterdir())
    with tree_files(root) as files:
        manifest = apply_seal(files, DEBIAN_GUEST, EVERYTHING)
        files.lstat(f"/{name}/machine-id")
        with pytest.raises(GuestFilesError):
            files.write(f"/{name}/new", b"")

    assert manifest.entries == ()
    assert sorted(outside.iterdir()) == before
    assert all(path.read_text() == "the host's" for path in before)


def test_a_link_is_followed_from_the_guests_own_root(tmp_path: Path) -> None:
    root = debian(tmp_path)
    (root / "etc/ssh").rename(root / "srv-keys")
    (root / "etc/ssh").symlink_to("/srv-keys")
    with tree_files(root) as files:
        assert files.resolve("/etc/../etc/ssh/sshd_config") == "/srv-keys/sshd_config"
        assert files.glob("/etc/ssh/*_key") == ("/srv-keys/ssh_host_ed25519_key",)
        assert files.glob("/var/spool/mail/*") == files.glob("/var/mail/*") == ("/var/mail/ann",)
        assert files.lstat("/../../etc/hosts") is not None


def test_a_guest_full_of_traps_is_sealed_all_the_same(tmp_path: Path) -> None:
    root = debian(tmp_path)
    (root / "etc/loop").symlink_to("loop2")
    (root / "etc/loop2").symlink_to("loop")
    (root / "var/log/self.log").symlink_to("self.log")
    (root / "etc/machine-id").unlink()
    (root / "etc/machine-id").symlink_to("/etc/loop/x")
    os.mkfifo(root / "var/log/pipe.log")
    (root / "etc/hosts").unlink()
    os.mkfifo(root / "etc/hosts")
    (root / "tmp/a\nb").write_text("x")
    with (root / "etc/sysconfig-network").open("wb") as huge:
        huge.truncate(1 << 40)
    (root / "etc/sysconfig").mkdir()
    (root / "etc/sysconfig-network").rename(root / "etc/sysconfig/network")
    deep = root / "tmp" / "/".join(["d"] * 150)
    deep.mkdir(parents=True)

    manifest = sealed(root)

    paths = {entry.path for entry in manifest.entries}
    assert "/tmp/a\nb" in paths
    assert "/etc/hosts" not in paths
    assert names(root / "tmp") == []
    assert any("too many for a text" in note.text for note in manifest.notes)


def test_files_that_are_written_keep_owner_and_mode(tmp_path: Path) -> None:
    root = debian(tmp_path)
    hosts = root / "etc/hosts"
    hosts.chmod(0o640)
    inode = hosts.stat().st_ino
    with tree_files(root) as files:
        files.write("/etc/hosts", b"short")
        files.write("/etc/a/b/c", b"new", 0o600)
        found = files.lstat("/etc/a/b/c")
        assert found is not None
        assert (found.kind, found.mode, found.bytes) == (FileKind.FILE, 0o600, 3)
        files.rmtree("/etc/a")
        assert files.lstat("/etc/a") is None
    assert (hosts.stat().st_mode & 0o777, hosts.stat().st_ino) == (0o640, inode)
    assert hosts.read_text() == "short"


def test_guests_are_told_apart(tmp_path: Path) -> None:
    for name, tree in (("d", DEBIAN), ("r", REDHAT), ("w", {"Windows/System32/x": ""}), ("u", {})):
        make_tree(tmp_path / name, tree)
    kinds = {}
    for name in "drwu":
        with tree_files(tmp_path / name) as files:
            guest = identify(files)
            kinds[name] = guest.kind, guest.family, [item.code for item in problems(files, guest)]
    assert kinds == {
        "d": (GuestKind.LINUX, Family.DEBIAN, []),
        "r": (GuestKind.LINUX, Family.REDHAT, []),
        "w": (GuestKind.WINDOWS, Family.OTHER, ["GUEST_IS_WINDOWS"]),
        "u": (GuestKind.UNKNOWN, Family.OTHER, ["GUEST_UNKNOWN"]),
    }
    with tree_files(tmp_path / "w") as files, pytest.raises(GuestRefused):
        plan_seal(files, Guest(kind=GuestKind.WINDOWS), choose())


def test_a_suspended_guest_is_left_alone(tmp_path: Path) -> None:
    swap = "\0" * 4086 + "S1SUSPEND\0"
    root = debian(tmp_path, **{"etc/fstab": "/swapfile none swap sw 0 0\n", "swapfile": swap})
    with tree_files(root) as files:
        codes = [item.code for item in problems(files, identify(files))]
    assert codes == ["GUEST_HIBERNATED"]


def test_mount_points_of_a_guests_own_are_known(tmp_path: Path) -> None:
    fstab = "/dev/vda1 / ext4 x 0 0\nUUID=1 /boot ext4 x 0 0\nLABEL=v /var xfs x 0 0\n" \
        "#UUID=2 /home ext4 x\nsrv:/x /data nfs x 0 0\ntmpfs /tmp tmpfs x 0 0\n"  # fmt: skip
    root = debian(tmp_path, **{"etc/fstab": fstab})
    with tree_files(root) as files:
        assert own_mount_points(files) == ("/var",)


def part(content: Content) -> Part:
    return Part(number=1, offset_bytes=0, length_bytes=1, content=content)


@pytest.mark.parametrize(
    ("contents", "code"),
    [
        ([Content.OTHER], "NO_FILESYSTEM"),
        ([Content.SWAP], "NO_FILESYSTEM"),
        ([Content.FAT, Content.NTFS], "GUEST_IS_WINDOWS"),
        ([Content.EXT, Content.NTFS], None),
        ([Content.EXT, Content.SUSPENDED], "GUEST_HIBERNATED"),
        ([Content.EXT, Content.SWAP, Content.FAT], None),
    ],
)
def test_a_disk_is_judged_by_what_it_holds(contents: list[Content], code: str | None) -> None:
    refusal = disk_refusal([part(content) for content in contents], "disk")
    assert (refusal.code if refusal is not None else None) == code


@settings(max_examples=25)
@given(st.binary(max_size=2048), st.integers(0, 1 << 20))
def test_no_bytes_make_the_layout_fail(noise: bytes, length: int) -> None:
    for head in (noise, noise[:512].ljust(512, b"\0") + b"EFI PART" + noise,
                 noise[:510].ljust(510, b"\1") + b"\x55\xaa" + noise):  # fmt: skip
        for found in read_layout(lambda at, size, data=head: data[at : at + size], length):  # type: ignore[misc]
            assert found.offset_bytes >= 0
            assert found.offset_bytes + found.length_bytes <= max(length, found.length_bytes)


def test_snapd_asks_for_a_serial_of_its_own(tmp_path: Path) -> None:
    device = {"brand": "generic", "model": "generic-classic", "serial": "s", "key-id": "k"}
    state = {"data": {"auth": {"last-id": 1, "device": device}}, "changes": {}}
    key, serial = "device/private-keys-v1/k", "assertions/asserts-v0/serial/generic/m/s/active"
    files = {"state.json": json.dumps(state), key: "secret", serial: "signed"}
    root = debian(tmp_path, **{f"var/lib/snapd/{name}": text for name, text in files.items()})

    sealed(root)

    left = json.loads(read(root, "var/lib/snapd/state.json"))
    assert left["data"]["auth"] == {
        "last-id": 1,
        "device": {"brand": "generic", "model": "generic-classic"},
    }
    assert not (root / "var/lib/snapd" / key).exists()
    assert not (root / "var/lib/snapd" / serial).exists()


def test_a_state_of_snapd_too_large_to_edit_keeps_its_key(tmp_path: Path) -> None:
    key = "var/lib/snapd/device/private-keys-v1/k"
    root = debian(tmp_path, **{"var/lib/snapd/state.json": " " * (1 << 21), key: "secret"})
    manifest = sealed(root)
    assert (root / key).exists()
    assert "snapd" in {note.operation for note in manifest.notes}


def test_a_zabbix_agent_takes_the_clones_own_name(tmp_path: Path) -> None:
    conf = "Server=10.0.0.1\nHostname=web\n# Hostname=\nHostnameItem=system.hostname\n"
    root = debian(tmp_path, **{"etc/zabbix/zabbix_agentd.conf": conf})
    sealed(root)
    assert read(root, "etc/zabbix/zabbix_agentd.conf") == conf.replace("Hostname=web\n", "")


def test_the_questions_of_a_first_boot_are_asked_again_when_wanted(tmp_path: Path) -> None:
    unit = "usr/lib/systemd/system/initial-setup.service"
    root = make_tree(tmp_path / "guest", {**REDHAT, unit: "[Unit]\n"})
    sealed(root, choose(only=["ask-at-first-boot"]))
    assert (root / ".unconfigured").exists()
    wants = root / "etc/systemd/system/multi-user.target.wants/initial-setup.service"
    assert str(wants.readlink()) == f"/{unit}"


def test_old_memory_in_swap_space_is_told(tmp_path: Path) -> None:
    root = debian(tmp_path, **{"etc/fstab": "/swap none swap sw 0 0\n"})
    assert "swap" in {note.operation for note in sealed(root).notes}
    plain = make_tree(tmp_path / "plain", {**DEBIAN, "etc/fstab": "/dev/vda1 / ext4 rw 0 1\n"})
    assert "swap" not in {note.operation for note in sealed(plain).notes}


GROUPS = VolumeGroups(names=("vg",))


@pytest.mark.parametrize(
    ("groups", "renewed"),
    [(GROUPS, ["volume group vg"]), (dataclasses.replace(GROUPS, keep="/boot is on it"), [])],
)
def test_volume_groups_are_renewed_unless_something_finds_them_by_their_ids(
    tmp_path: Path, groups: VolumeGroups, renewed: list[str]
) -> None:
    root = make_tree(tmp_path / "guest", REDHAT)
    with tree_files(root, groups=groups) as files:
        manifest = apply_seal(files, identify(files), choose(only=["lvm-uuids"]))
        assert files.renewing is bool(renewed)
    assert [e.path for e in manifest.entries if e.action is Action.RENEW] == renewed
    assert (root / "etc/lvm/devices/system.devices").exists() is not bool(renewed)
    assert bool(manifest.notes) is not bool(renewed)


@pytest.mark.parametrize("here", [True, False])
def test_what_a_run_left_without_labels_gets_them(tmp_path: Path, here: bool) -> None:
    contexts = "etc/selinux/targeted/contexts/files/file_contexts"
    selinux = {"etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=targeted\n", contexts: ""}
    root = make_tree(tmp_path / "guest", {**REDHAT, **selinux})
    rows = own(tmp_path, "[a]\nrun=[['/bin/true']]")
    asked: list[str] = []

    def relabel(path: str) -> bool:
        asked.append(path)
        return here

    with tree_files(root, runner=lambda _: None, relabel=relabel) as files:
        manifest = apply_seal(files, identify(files), choose(only=["a"], own=rows))

    assert asked == [f"/{contexts}"]
    assert (root / ".autorelabel").exists() is not here
    assert [note.operation for note in manifest.notes] == ["a"]
