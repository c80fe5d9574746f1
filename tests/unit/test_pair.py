"""What two hosts need before the first move, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders import HostBuilder, a_usual_host
from twinship.inventory.pair import PairSide, compared

KVM01, KVM02 = a_usual_host("kvm01"), a_usual_host("kvm02")
NONE: frozenset[str] = frozenset()


def side(host: HostBuilder) -> PairSide:
    return PairSide(
        facts=host.facts(), bridges=frozenset({"br0"}), filters=NONE, secrets=NONE, machines=NONE
    )


ONE, OTHER = side(KVM01), side(KVM02)

CASES = {
    "host UUID": (ONE, side(KVM02.having(uuid="host-uuid-of-kvm01")), True),
    "no VM can move": (ONE, side(KVM02.having(arch="aarch64")), True),
    "kvm02 has no KVM": (ONE, side(KVM02.having(domain_types=("qemu",))), True),
    "no pool over": (ONE, side(KVM02.having(pools=())), True),
    "is not active: virsh pool-start": (
        ONE,
        side(KVM02.having(pools=(replace(KVM02.pools[0], active=False),))),
        True,
    ),
    "has no network default": (ONE, side(KVM02.having(networks=())), True),
    "net-start": (
        ONE,
        side(KVM02.having(networks=(replace(KVM02.networks[0], active=False),))),
        True,
    ),
    "finds itself elsewhere": (
        ONE,
        side(KVM02.having(networks=(replace(KVM02.networks[0], forward="nat"),))),
        False,
    ),
    "kvm02 has no bridge br0": (ONE, replace(OTHER, bridges=NONE), False),
    "bridges cannot be seen": (ONE, replace(OTHER, bridges=None), False),
    "kvm02 lacks quiet": (replace(ONE, filters=frozenset({"quiet"})), OTHER, False),
    "these secrets of kvm01: u luks": (replace(ONE, secrets=frozenset({"u luks"})), OTHER, False),
    "does not confine": (side(KVM01.having(security_models=("selinux",))), OTHER, False),
    "QEMU on kvm02 (7.1.0) is older": (ONE, side(KVM02.having(qemu_version=(7, 1, 0))), False),
    "the newest: pc-q35-10.0": (
        replace(ONE, machines=frozenset({"pc-q35-10.0", "pc-q35-9.2"})),
        OTHER,
        False,
    ),
    "lacks the firmware /f.fd": (replace(ONE, loaders=frozenset({"/f.fd"})), OTHER, False),
    "paste <cpu>": (
        replace(ONE, cpu_baseline="<cpu/>"),
        side(KVM02.having(cpu_vendor="AMD")),
        False,
    ),
    "session connection": (ONE, side(KVM02.having(privileged=False)), False),
}


@pytest.mark.parametrize("words", CASES)
def test_what_a_pair_lacks_is_said_whichever_host_is_named_first(words: str) -> None:
    one, other, missing = CASES[words]
    words = words.replace("<cpu>", "<cpu")
    for pair in ((one, other), (other, one)):
        said = [each for each in compared(*pair) if words in each.text]
        if "paste" in words:
            said = said or [each for each in compared(*pair) if "CPUs of" in each.text]
        assert said, [each.text for each in compared(*pair)]
        assert said[0].missing is missing


def test_of_two_like_hosts_only_what_nobody_sees_is_said() -> None:
    (said,) = compared(ONE, OTHER)

    assert "cannot be seen" in said.text
    assert not said.missing
