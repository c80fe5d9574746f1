"""Parsing of domain XML that may be hostile, and XML that survives every name."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.builders import IMAGES, a_vm
from twinship.domxml import read as domread
from twinship.domxml.carrier import (
    ALIGNMENT_BYTES,
    Cargo,
    Carrier,
    End,
    aligned,
    carrier_xml,
    copy_target_xml,
)
from twinship.domxml.document import MAX_BYTES, parse, serialize
from twinship.domxml.rewrite import (
    mark_of,
    redacted,
    with_disks,
    with_mark,
    with_sparse_targets,
    without_chains,
    without_mark,
)
from twinship.model.errors import UsageError

AWKWARD = "a \"b\" 'c' <d> & e; ]]> é 虚拟机 \U0001f5a5"

# Characters that XML 1.0 has a place for, without those it normalizes in attributes.
xml_text = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20
)


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE domain><domain/>",
        "<!DOCTYPE domain [<!ENTITY x 'y'>]><domain><name>&x;</name></domain>",
        "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>",
        "<!DOCTYPE domain SYSTEM 'http://example.org/domain.dtd'><domain/>",
        "<!DOCTYPE a [<!ENTITY b 'cccccccccc'><!ENTITY d '&b;&b;&b;&b;&b;&b;&b;&b;'>]><a>&d;</a>",
        "<domain><name>&undefined;</name></domain>",
        "<domain>",
        "<domain/><domain/>",
        "not XML at all",
        "",
        "\0",
        "<domain>\x01</domain>",
        "<domain>\ud800</domain>",
    ],
)
def test_entities_doctypes_and_garbage_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert refused.value.code == "BAD_XML"


def test_a_document_larger_than_libvirt_takes_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        parse(f"<domain>{'x' * MAX_BYTES}</domain>")
    assert refused.value.code == "BAD_XML"


def test_a_document_nested_too_deep_is_refused() -> None:
    with pytest.raises(UsageError):
        parse("<a>" * 100_000 + "</a>" * 100_000)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_in_our_words(text: str) -> None:
    with suppress(UsageError):
        parse(text)


def test_reading_and_writing_again_changes_nothing() -> None:
    once = serialize(parse(a_vm("web").with_disk().with_nic().xml()))

    assert serialize(parse(once)) == once


def test_an_external_entity_never_reaches_a_file(tmp_path: object) -> None:
    secret = "root:x:0:0"
    text = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><d><name>&x;</name></d>"
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert secret not in str(refused.value.as_dict())


@given(xml_text, xml_text)
def test_names_and_paths_with_any_character_survive(name: str, path: str) -> None:
    text = a_vm("web").with_disk("vda").xml()
    changed = with_mark(
        with_disks(text, {"vda": (f"/{path}", "")}), "clone", {"name": name, "of": "x"}
    )

    assert (mark_of(changed, "clone") or {})["name"] == name
    assert domread.disks(changed)[0].path == f"/{path}"


def test_an_awkward_name_breaks_no_xml() -> None:
    vm = a_vm(AWKWARD).with_disk("vda", path=f"{IMAGES}/{AWKWARD}.qcow2")
    marked = with_mark(vm.xml(), "clone", {"name": AWKWARD})

    assert domread.summary(marked).name == AWKWARD
    assert domread.disks(marked)[0].path == f"{IMAGES}/{AWKWARD}.qcow2"
    assert (mark_of(marked, "clone") or {})["name"] == AWKWARD


@given(xml_text.filter(bool))
def test_a_carrier_of_files_with_any_name_is_well_formed(path: str) -> None:
    text = carrier_xml(_carrier(), (Cargo(target="vda", path=path, slice_bytes=65536),), End.SOURCE)

    source = parse(text).find("devices/disk/source")
    assert source is not None
    assert source.get("file") == path


# Rewriting


def test_only_the_named_disks_get_new_files() -> None:
    text = a_vm().with_disk("vda").with_disk("vdb", format="raw").with_cdrom("/iso/a.iso").xml()
    before = {disk.target: disk for disk in domread.disks(text)}
    after = {
        disk.target: disk
        for disk in domread.disks(
            with_disks(text, {"vdb": ("/new/b.raw", ""), "vdz": ("/new/z", "")})
        )
    }

    assert after["vdb"].path == "/new/b.raw"
    assert after["vda"] == before["vda"]
    assert after["sda"] == before["sda"]
    assert after.keys() == before.keys()


def test_a_new_file_drops_the_old_chain_of_that_disk_only() -> None:
    chain = "<backingStore type='file'><source file='/base'/></backingStore><mirror type='file'/>"
    text = a_vm().with_disk("vda", inside=chain).with_disk("vdb", inside=chain).xml()
    root = parse(with_disks(text, {"vda": ("/new/a", "")}))

    first, second = root.findall("devices/disk")
    assert first.find("backingStore") is None
    assert first.find("mirror") is None
    assert second.find("backingStore") is not None
    assert second.find("mirror") is not None


def test_a_volume_becomes_a_file_and_keeps_its_label() -> None:
    text = (
        "<domain><devices><disk type='volume' device='disk'><driver type='qcow2'/>"
        "<source pool='p' volume='v' index='1'><seclabel model='selinux' relabel='no'/>"
        "<reservations managed='yes'/></source><target dev='vda'/></disk></devices></domain>"
    )
    disk = parse(with_disks(text, {"vda": ("/new/a", "")})).find("devices/disk")

    assert disk is not None
    source = disk.find("source")
    assert source is not None
    assert disk.get("type") == "file"
    assert source.items() == [("file", "/new/a")]
    assert [child.tag for child in source] == ["seclabel"]


def test_chains_and_sparseness_are_changed_for_the_named_disks_alone() -> None:
    chain = "<backingStore type='file'><source file='/base'/></backingStore>"
    text = a_vm().with_disk("vda", inside=chain).with_disk("vdb", inside=chain).xml()
    changed = parse(
        with_sparse_targets(without_chains(text, frozenset({"vda"})), frozenset({"vda"}))
    )

    first, second = changed.findall("devices/disk")
    one, other = first.find("driver"), second.find("driver")
    assert one is not None
    assert other is not None
    assert first.find("backingStore") is None
    assert second.find("backingStore") is not None
    assert (one.get("discard"), one.get("detect_zeroes")) == ("unmap", "unmap")
    assert other.get("discard") is None


def test_a_mark_replaces_an_older_one_and_goes_without_a_trace() -> None:
    text = serialize(parse(a_vm().xml()))
    twice = with_mark(with_mark(text, "clone", {"of": "a"}), "clone", {"of": "b"})

    assert twice.count("of=") == 1
    assert mark_of(twice, "clone") == {"of": "b"}
    assert mark_of(twice, "away") is None
    assert without_mark(twice, "clone") == text


def test_marks_leave_the_notes_of_other_tools_alone() -> None:
    theirs = "<metadata><os xmlns='http://libosinfo.org/xmlns'><id>debian</id></os></metadata>"
    text = a_vm().with_element(theirs).xml()
    changed = without_mark(with_mark(text, "away", {"host": "kvm02"}), "away")

    assert "debian" in changed
    assert mark_of(changed, "away") is None


def test_secrets_are_starred_out() -> None:
    vm = (
        a_vm()
        .with_device("<graphics type='vnc' passwd='s3cret-vnc'/>")
        .with_device("<graphics type='spice' passwd='s3cret-spice'/>")
        .with_network_disk(inside="<cookies><cookie name='a'>s3cret-cookie</cookie></cookies>")
    )
    shown = redacted(vm.xml())

    assert "s3cret" not in shown
    assert shown.count("*****") == 3


# The carrier


def test_a_carriers_disks_are_slices_of_raw_files() -> None:
    text = carrier_xml(
        _carrier(), (Cargo(target="vda", path="/a", slice_bytes=131072),), End.SOURCE
    )
    disk = parse(text).find("devices/disk")
    assert disk is not None
    driver, slice_ = disk.find("driver"), disk.find("source/slices/slice")
    assert driver is not None
    assert slice_ is not None
    assert driver.get("type") == "raw"
    assert sorted(slice_.items()) == [("offset", "0"), ("size", "131072"), ("type", "storage")]


def test_each_end_of_the_way_has_its_own_kind_of_disk() -> None:
    ends = {
        end: carrier_xml(_carrier(), (Cargo(target="vda", path="/a", slice_bytes=65536),), end)
        for end in End
    }

    assert {end for end, text in ends.items() if "<readonly" in text} == {End.LOCAL_SOURCE}
    assert {end for end, text in ends.items() if "unmap" not in text} == {End.SOURCE}


def test_a_carrier_runs_no_guest() -> None:
    root = parse(carrier_xml(_carrier(), (), End.SOURCE))

    assert root.get("type") == "qemu"
    assert root.find("devices/disk") is None
    assert root.find("os/boot") is None
    assert root.find("devices/interface") is None


def test_a_chain_is_spelled_out_so_that_no_header_is_followed() -> None:
    item = Cargo(target="vda", path="/a", format="qcow2", backing=(("/b", "qcow2"), ("/c", "raw")))
    disk = etree.fromstring(copy_target_xml(item))

    assert [s.get("file") for s in disk.iter("source")] == ["/a", "/b", "/c"]
    ends = disk.findall("backingStore/backingStore/backingStore")
    assert len(ends) == 1
    assert len(ends[0]) == 0


@given(st.integers(0, 2**40))
def test_slices_are_aligned_and_the_tail_is_short(length: int) -> None:
    assert aligned(length) % ALIGNMENT_BYTES == 0
    assert 0 <= length - aligned(length) < ALIGNMENT_BYTES


def _carrier() -> Carrier:
    return Carrier(
        name="twinship-carrier-1", uuid="u", domain_type="qemu", arch="x86_64", machine="q35"
    )
