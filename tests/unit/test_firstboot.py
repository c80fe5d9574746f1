"""What a guest is told before its first boot: credentials, NoCloud documents, the image."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twinship.clone.firstboot import (
    MOST_FILE_BYTES,
    FirstBoot,
    GuestFile,
    GuestNic,
    hostname_for,
    hostname_problem,
    nocloud,
    oem_strings,
    public_keys,
)
from twinship.clone.seed import LABEL, MOST_BYTES, SECTOR_BYTES, seed_image
from twinship.model.errors import UsageError

MAC = "52:54:00:aa:00:01"


def a_key(kind: str = "ssh-ed25519", comment: str = "me@desk") -> str:
    data = len(kind).to_bytes(4) + kind.encode() + (32).to_bytes(4) + bytes(32)
    return f"{kind} {base64.b64encode(data).decode()} {comment}".rstrip()


FULL = FirstBoot(
    hostname="web-007.example.org",
    ssh_keys=(a_key(), a_key("ecdsa-sha2-nistp256", "")),
    files=(GuestFile(path="/etc/motd", content=b"hello\n", mode=0o600, owner="www-data"),),
    nics=(
        GuestNic(
            mac=MAC,
            addresses=("192.0.2.7/24", "fd00::7/64"),
            gateways=("192.0.2.1", "fd00::1"),
            dns=("192.0.2.53",),
        ),
    ),
)

guest_text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)


def credentials(first: FirstBoot) -> dict[str, bytes]:
    """What systemd makes of the strings."""
    found = {}
    for entry in oem_strings(first):
        name, _, value = entry.partition("=")
        kind, _, name = name.partition(":")
        assert kind in ("io.systemd.credential", "io.systemd.credential.binary")
        data = base64.b64decode(value, validate=True) if "binary" in kind else value.encode()
        found[name] = data
    return found


def test_systemd_is_told_everything_by_the_credentials_it_knows() -> None:
    found = credentials(FULL)

    assert found["firstboot.hostname"] == found["system.hostname"] == b"web-007.example.org"
    assert found["sysctl.extra"] == b"kernel.hostname = web-007.example.org\n"
    assert found["ssh.authorized_keys.root"].decode().splitlines() == list(FULL.ssh_keys)
    assert found["tmpfiles.extra"].decode().splitlines() == [
        'f+~ "/etc/motd" 0600 www-data root - aGVsbG8K',
        'f+~ "/etc/hostname" 0644 root root - d2ViLTAwNy5leGFtcGxlLm9yZwo=',
    ]
    assert found["network.network.10-twinship-0"].decode().splitlines() == [
        *("[Match]", f"MACAddress={MAC}", "[Network]"),
        *("Address=192.0.2.7/24", "Address=fd00::7/64"),
        *("Gateway=192.0.2.1", "Gateway=fd00::1", "DNS=192.0.2.53"),
    ]


def test_nothing_asked_is_nothing_told() -> None:
    assert oem_strings(FirstBoot()) == ()
    documents = nocloud(FirstBoot(), "1")
    assert yaml.safe_load(documents["meta-data"]) == {"instance-id": "1"}
    assert yaml.safe_load(documents["user-data"]) == {}
    assert "network-config" not in documents


def test_oem_strings_are_plain_ascii_lines() -> None:
    assert all(entry.isascii() and entry.isprintable() for entry in oem_strings(FULL))


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["motd", 'a "b" %h \\n é\'', "%%", "-", "#x", "empty dir/file"])
def test_systemd_itself_writes_the_files(tmp_path: Path, name: str) -> None:
    content = bytes(range(256)) if name != "-" else b""
    first = FirstBoot(files=(GuestFile(path=f"/opt/{name}", content=content, mode=0o640),))
    rules = tmp_path / "usr/lib/tmpfiles.d/extra.conf"
    rules.parent.mkdir(parents=True)
    rules.write_bytes(credentials(first)["tmpfiles.extra"])
    (tmp_path / "etc").mkdir()

    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", "--prefix=/opt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    made = tmp_path / "opt" / name
    assert made.read_bytes() == content, done.stderr
    assert made.stat().st_mode & 0o7777 == 0o640


def test_cloud_init_is_told_everything() -> None:
    documents = nocloud(FULL, "uuid-1")

    assert documents["user-data"].startswith(b"#cloud-config\n")
    assert yaml.safe_load(documents["meta-data"]) == {
        "instance-id": "uuid-1",
        "local-hostname": "web-007.example.org",
    }
    user = yaml.safe_load(documents["user-data"])
    assert user["ssh_authorized_keys"] == list(FULL.ssh_keys)
    assert user["write_files"] == [
        {
            "path": "/etc/motd",
            "encoding": "b64",
            "content": "aGVsbG8K",
            "permissions": "0600",
            "owner": "www-data:root",
        }
    ]
    network = yaml.safe_load(documents["network-config"])
    assert network["ethernets"]["nic0"] == {
        "match": {"macaddress": MAC},
        "dhcp4": False,
        "addresses": ["192.0.2.7/24", "fd00::7/64"],
        "routes": [
            {"to": "0.0.0.0/0", "via": "192.0.2.1"},
            {"to": "::/0", "via": "fd00::1"},
        ],
        "nameservers": {"addresses": ["192.0.2.53"]},
    }


@given(guest_text, guest_text, st.binary(max_size=100))
def test_what_is_typed_comes_out_as_it_is_and_never_as_more(
    name: str, comment: str, content: bytes
) -> None:
    try:
        first = FirstBoot(
            ssh_keys=(a_key(comment=comment),),
            files=(GuestFile(path=f"/opt/{name}", content=content),),
        )
    except UsageError:
        return

    user = yaml.safe_load(nocloud(first, "1")["user-data"])

    assert user == json.loads(nocloud(first, "1")["user-data"].split(b"\n", 1)[1])
    assert set(user) == {"ssh_authorized_keys", "disable_root", "write_files"}
    assert user["ssh_authorized_keys"] == list(first.ssh_keys)
    assert user["write_files"][0]["path"] == f"/opt/{name}"
    found = credentials(first)
    assert len(found["tmpfiles.extra"].splitlines()) == 1
    assert found["ssh.authorized_keys.root"].decode() == f"{first.ssh_keys[0]}\n"


def a_file(**fields: Any) -> Callable[[], object]:
    return lambda: GuestFile(**{"path": "/a", "content": b"", **fields})


def a_nic(**fields: Any) -> Callable[[], object]:
    return lambda: GuestNic(**{"mac": MAC, "addresses": ("192.0.2.7/24",), **fields})


IMPOSSIBLE: dict[str, Callable[[], object]] = {
    "a hostname with a space": lambda: FirstBoot(hostname="web 1"),
    "a hostname with a line": lambda: FirstBoot(hostname="web\nkernel.panic = 1"),
    "a hostname with an end of line": lambda: FirstBoot(hostname="web\n"),
    "a key without a type": lambda: FirstBoot(ssh_keys=("AAAA",)),
    "a key with options": lambda: FirstBoot(ssh_keys=(f'command="x" {a_key()}',)),
    "a key of another type": lambda: FirstBoot(ssh_keys=(a_key().replace("ed25519", "rsa", 1),)),
    "a key that is cut": lambda: FirstBoot(ssh_keys=(a_key(comment="")[:30],)),
    "two keys in one": lambda: FirstBoot(ssh_keys=(f"{a_key()}\n{a_key()}",)),
    "a file twice": lambda: FirstBoot(files=(GuestFile(path="/a", content=b""),) * 2),
    "a relative path": a_file(path="a"),
    "no path": a_file(path=""),
    "a directory": a_file(path="/a/"),
    "the root": a_file(path="/"),
    "a way up": a_file(path="/a/../b"),
    "a path with a line": a_file(path="/a\nL /etc/shadow"),
    "a path with half a character": a_file(path="/a\ud800"),
    "a huge file": a_file(content=bytes(MOST_FILE_BYTES + 1)),
    "a mode that is none": a_file(mode=0o10000),
    "an owner that is two words": a_file(owner="root root"),
    "a MAC that is none": a_nic(mac="52:54:00:aa:00"),
    "an address without prefix": a_nic(addresses=("192.0.2.7",)),
    "an address with a netmask": a_nic(addresses=("192.0.2.7/255.255.255.0",)),
    "an address with a line": a_nic(addresses=("192.0.2.7/24\n[Link]",)),
    "a gateway that is a name": a_nic(gateways=("router",)),
    "a server on a card": a_nic(dns=("fe80::1%eth0",)),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_a_guest_cannot_be_told_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        IMPOSSIBLE[name]()
    assert refused.value.code == "FIRST_BOOT"


def test_a_public_key_file_is_read_without_its_comments() -> None:
    text = f"# mine\n\n{a_key()}\r\n  {a_key('ssh-rsa')}\n{a_key()}\n"
    assert public_keys(text) == (a_key(), a_key("ssh-rsa"))


@pytest.mark.parametrize("text", ["", "# none\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb"])
def test_a_private_key_or_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        public_keys(text)


@pytest.mark.parametrize(
    ("vm", "hostname"),
    [("Web 2_a", "web-2-a"), ("db.example.org", "db.example.org"), ("Müller", "muller"),
     ("虚拟机", ""), ("--x--", "x"), ("a..b", "a.b")],
)  # fmt: skip
def test_a_vms_name_gives_a_hostname(vm: str, hostname: str) -> None:
    assert hostname_for(vm) == hostname


@given(st.text(max_size=120))
def test_a_hostname_that_is_made_can_be_one(vm: str) -> None:
    made = hostname_for(vm)
    assert not made or not hostname_problem(made)


def read_image(image: bytes, *, joliet: bool) -> dict[str, bytes]:
    """Reads an image by ECMA-119, from its descriptor on."""
    start = (17 if joliet else 16) * SECTOR_BYTES
    assert image[start + 1 : start + 6] == b"CD001"
    assert int.from_bytes(image[start + 80 : start + 84], "little") * SECTOR_BYTES == len(image)
    root = image[start + 156 : start + 190]
    sector, length = (int.from_bytes(root[at : at + 4], "little") for at in (2, 10))
    directory = image[sector * SECTOR_BYTES : sector * SECTOR_BYTES + length]
    files = {}
    at = 0
    while directory[at]:
        record = directory[at : at + directory[at]]
        at += directory[at]
        name = record[33 : 33 + record[32]]
        sector, length = (int.from_bytes(record[off : off + 4], "little") for off in (2, 10))
        data = image[sector * SECTOR_BYTES : sector * SECTOR_BYTES + length]
        if name not in (b"\0", b"\1"):
            files[name.decode("utf-16-be" if joliet else "ascii")] = data
    return files


@given(
    st.dictionaries(
        st.sampled_from(["meta-data", "user-data", "network-config", "vendor-data"]),
        st.binary(max_size=5000),
    )
)
def test_an_image_holds_its_documents_under_both_names(documents: dict[str, bytes]) -> None:
    image = seed_image(documents)

    assert image == seed_image(dict(reversed(documents.items())))
    assert read_image(image, joliet=True) == documents
    short = {f"{name.upper()}.;1": data for name, data in documents.items()}
    assert read_image(image, joliet=False) == short
    assert image[16 * SECTOR_BYTES + 40 :][:32].decode() == LABEL.ljust(32)


@pytest.mark.skipif(shutil.which("blkid") is None, reason="no blkid here")
def test_the_label_is_found_as_cloud_init_looks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    path.write_bytes(seed_image(nocloud(FULL, "1")))

    command = ["blkid", "-p", "-o", "export", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    assert {"LABEL=CIDATA", "TYPE=iso9660"} <= set(told.split())


def test_an_image_has_a_limit_and_plain_names() -> None:
    with pytest.raises(UsageError) as refused:
        seed_image({"user-data": bytes(MOST_BYTES)})
    assert refused.value.code == "SEED_TOO_LARGE"
    for name in ("", "../x", "User-Data", "a" * 28):
        with pytest.raises(ValueError, match="names"):
            seed_image({name: b""})


def test_what_is_no_public_key_is_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        FirstBoot(ssh_keys=("root:$6$secret:20228:0:99999:7:::",))

    assert "secret" not in str(refused.value) + refused.value.message + refused.value.cause
