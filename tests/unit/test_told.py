"""What a clone was told for its first boot is not told to its own clones."""

from __future__ import annotations

from tests.builders import a_clone_of, a_vm, clone_request, new_ids
from twinship.clone.addressing import addressed
from twinship.clone.plan import definition, plan_clone
from twinship.domxml.attachments import with_oem_strings
from twinship.domxml.rewrite import mark_of, with_mark, without_mark
from twinship.domxml.told import seed_of, without_told
from twinship.model.request import CloneRequest, FirstBootWay

OWN = "io.systemd.credential:mine=kept"


def clone_of(text: str, request: CloneRequest) -> str:
    """The definition of a clone of this one."""
    facts = a_clone_of(a_vm("web").with_disk().with_nic())
    return definition(text, plan_clone(facts, request, new_ids()).spec)


def test_credentials_of_a_clone_are_not_those_of_its_clones() -> None:
    source = with_oem_strings(a_vm("web").with_disk().with_nic().xml(), [OWN])
    first = clone_of(source, clone_request(name="web-2", hostname="auto"))
    assert "web-2" in first
    assert "sysctl.extra" in first

    second = clone_of(first, clone_request(name="plain"))

    assert "sysctl.extra" not in second
    assert OWN in second, "what its owner put there stays"
    assert "told" not in second


def test_a_seed_image_is_not_shared_with_clones() -> None:
    source = a_vm("web").with_disk().with_nic().xml()
    request = clone_request(name="web-2", hostname="auto", first_boot=FirstBootWay.CLOUD_INIT)
    first = clone_of(source, request)
    assert seed_of(first).endswith("/web-2-seed.iso")
    assert "credential" not in first

    second = clone_of(first, clone_request(name="plain"))

    assert "seed" not in second


def test_what_nobody_was_told_stays() -> None:
    source = with_oem_strings(a_vm("web").with_disk().xml(), [OWN])
    assert without_told(source) == source


def test_addresses_go_to_one_clone_after_the_other() -> None:
    vm = a_vm("web").with_disk().with_nic().with_nic(mac="52:54:00:00:00:02")
    facts = a_clone_of(vm, network="lan", addresses=frozenset({"192.0.2.10"}))
    facts_macs = a_clone_of(vm, macs=frozenset({"52:54:00:aa:00:01"}))
    request = clone_request(mac_range="52:54:00:aa:00:00+", address_range="192.0.2.10-192.0.2.20")

    first, second = addressed(facts, (request, request))
    third, _ = addressed(facts_macs, (request, request))

    assert (first.address, second.address) == ("192.0.2.11", "192.0.2.12")
    assert second.macs == ("52:54:00:aa:00:02", "52:54:00:aa:00:03")
    assert third.macs == ("52:54:00:aa:00:00", "52:54:00:aa:00:02")


def test_all_marks_stand_in_one_element() -> None:
    """Of several elements of one namespace libvirt keeps the first only."""
    text = with_mark(a_vm("web").xml(), "away", {"host": "kvm02"})
    text = with_mark(with_mark(text, "clone", {"of": "x"}), "away", {"host": "kvm03"})

    assert text.count("xmlns:twinship") == 1
    assert mark_of(text, "away") == {"host": "kvm03"}
    assert mark_of(without_mark(text, "away"), "clone") == {"of": "x"}
    assert "metadata" not in without_mark(without_mark(text, "away"), "clone")
