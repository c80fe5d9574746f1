"""What --fix rewrites, and that it rewrites nothing else."""

from __future__ import annotations

import difflib

import pytest
from lxml import etree

from tests.builders import IMAGES, VmBuilder, a_vm
from twinship.domxml.document import parse, serialize
from twinship.domxml.refit import _WAYS, Refit, Rewrite, refitted, rewrite_from

VM = (
    a_vm("web")
    .with_disk("vda")
    .with_disk("vdb", path="/elsewhere/data.qcow2")
    .with_cdrom("/iso/a.iso", "sda")
    .with_nic(kind="bridge", source="br0")
    .with_nic(source="red", mac="52:54:00:00:00:02")
    .with_device("<interface type='direct'><source dev='eth1' mode='bridge'/></interface>")
    .with_device(
        "<graphics type='vnc' port='5901' listen='10.0.0.1'>"
        "<listen type='address' address='10.0.0.1'/></graphics>"
    )
    .with_element("<cpu mode='custom'><model>Old</model><topology sockets='1'/></cpu>")
    .with_element("<seclabel type='static' model='selinux'/>")
    .with_element("<seclabel type='static' model='dac'/>")
    .with_loader("/old/code.fd")
)

# Rewrite, and what is there instead: path, attribute ("" for the text), value (None: it is gone).
CASES: dict[Refit, tuple[str, str, str, str, str | None]] = {
    Refit.EMULATOR: ("", "/new/qemu", "devices/emulator", "", "/new/qemu"),
    Refit.MACHINE: ("pc-q35-7.2", "pc-q35-6.0", "os/type", "machine", "pc-q35-6.0"),
    Refit.CPU: ("", "<cpu><model>New</model></cpu>", "cpu/model", "", "New"),
    Refit.NETWORK: ("br0", "blue", "devices/interface[1]/source", "network", "blue"),
    Refit.BRIDGE: ("red", "br1", "devices/interface[2]/source", "bridge", "br1"),
    Refit.EJECT: ("sda", "", "devices/disk[3]/source", "file", None),
    Refit.LABEL: ("selinux", "", "seclabel[@model='selinux']", "model", None),
    Refit.LISTEN: ("10.0.0.1", "127.0.0.1", "devices/graphics/listen", "address", "127.0.0.1"),
    Refit.PORT: ("5901", "", "devices/graphics", "autoport", "yes"),
    Refit.DIRECTORY: (IMAGES, "/pool", "devices/disk[1]/source", "file", "/pool/web-vda.qcow2"),
    Refit.LOADER: ("/old/code.fd", "/new/code.fd", "os/loader", "", "/new/code.fd"),
}


def value(root: etree._Element, path: str, attribute: str) -> str | None:
    found = root.find(path)
    if found is None:
        return None
    return found.get(attribute) if attribute else found.text


def test_every_rewrite_has_a_case() -> None:
    assert set(CASES) == set(Refit) == set(_WAYS)


@pytest.mark.parametrize("kind", CASES)
def test_a_rewrite_does_what_it_says_and_touches_few_lines(kind: Refit) -> None:
    old, new, path, attribute, wanted = CASES[kind]
    before = serialize(parse(VM.xml()))
    after = refitted(VM.xml(), [Rewrite(kind, old, new)])

    assert value(parse(after), path, attribute) == wanted
    changed = [
        line
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert 0 < len(changed) <= 6


@pytest.mark.parametrize("kind", [kind for kind in CASES if CASES[kind][0]])
def test_a_rewrite_of_what_is_not_there_changes_nothing(kind: Refit) -> None:
    if kind in (Refit.MACHINE, Refit.LOADER):
        return  # a VM has one of these: it is not looked for by its name
    before = serialize(parse(VM.xml()))

    assert refitted(VM.xml(), [Rewrite(kind, "no such thing", "new")]) == before


@pytest.mark.parametrize("kind", CASES)
def test_a_vm_without_such_a_thing_is_left_alone(kind: Refit) -> None:
    old, new, *_ = CASES[kind]
    bare = VmBuilder(name="bare").xml()
    text = refitted(bare, [Rewrite(kind, old, new)])

    if kind not in (Refit.EMULATOR, Refit.MACHINE):
        assert text == serialize(parse(bare))


def test_a_new_cpu_keeps_the_guests_own_topology() -> None:
    text = refitted(VM.xml(), [Rewrite(Refit.CPU, "", "<cpu><model>New</model></cpu>")])

    assert parse(text).find("cpu/topology") is not None


def test_a_direct_interface_stays_direct_on_another_device() -> None:
    text = refitted(VM.xml(), [Rewrite(Refit.BRIDGE, "eth1", "eth2")])
    source = parse(text).find("devices/interface[@type='direct']/source")

    assert source is not None
    assert (source.get("dev"), source.get("mode"), len(source.attrib)) == ("eth2", "bridge", 2)


def test_a_rewrite_survives_the_journal() -> None:
    rewrite = Rewrite(Refit.BRIDGE, "br0", "br1")

    assert rewrite_from(rewrite.as_dict()) == rewrite
    assert refitted("<domain/>", ()) == "<domain/>"
