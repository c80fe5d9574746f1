"""``twinship-virt-clone``: virt-clone's options, names and definitions, and what is better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.builders import a_vm
from tests.virtclone_peer import (
    DIFFERENCES,
    SOURCE_UUID,
    Case,
    cases,
    differing,
    listed,
    printed_by_us,
)
from twinship.domxml import read
from twinship.domxml.document import parse
from twinship.model.errors import UsageError
from twinship.model.request import DiskChoice, DiskWay
from twinship.virtclone import order
from twinship.virtclone.disks import choices, shared_backing, unknown_targets
from twinship.virtclone.host import is_here, record_for
from twinship.virtclone.naming import clone_name, clone_path, nvram_path
from twinship.virtclone.options import Check, Options
from twinship.virtclone.options import parse as parse_options

PAGE = Path(__file__).parents[2] / "docs/reference/virt-clone.md"
AUTO = ("--original", "web", "--auto-clone")


@pytest.mark.parametrize(
    ("source", "taken", "expected"),
    [
        ("web", (), "web-clone"),
        ("web", ("web-clone",), "web-clone1"),
        ("web", ("web-clone", "web-clone1"), "web-clone2"),
        ("web-clone", (), "web-clone1"),
        ("web-clone9", (), "web-clone10"),
        ("web-clone10", (), "web-clone11"),  # virt-clone: web-clone10-clone
        ("web-clone100", ("web-clone101",), "web-clone102"),
        ("web-clone-3", (), "web-clone-3-clone"),
        ("web10", (), "web10-clone"),
        ("web-clone-clone", (), "web-clone-clone1"),
    ],
)
def test_names_are_virt_clones_and_go_on_after_ten(
    source: str, taken: tuple[str, ...], expected: str
) -> None:
    assert clone_name(source, taken) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/i/web.qcow2", "/i/new.qcow2"),
        ("/i/disk.img", "/i/disk-clone.img"),
        ("/i/disk", "/i/disk-clone"),
        ("/i/web", "/i/new"),
        ("/i/web.tar.gz", "/i/web.tar-clone.gz"),
        ("/i/x.1234567", "/i/x-clone.1234567"),
        ("/i/x.12345678", "/i/x.12345678-clone"),
        ("/p.d/disk", "/p.d/disk-clone"),  # virt-clone: /p-clone.d/disk
        ("/i/.hidden", "/i/.hidden-clone"),
    ],
)
def test_paths_are_virt_clones_and_stay_in_their_directory(path: str, expected: str) -> None:
    assert clone_path(path, "web", "new", lambda _: False) == expected


def test_a_path_that_is_taken_gets_a_number() -> None:
    taken = {"/i/disk-clone.img", "/i/disk-clone-1.img"}

    assert clone_path("/i/disk.img", "web", "new", taken.__contains__) == "/i/disk-clone-2.img"
    assert nvram_path("/n/web_VARS.fd", "new", {"/n/new_VARS.fd"}.__contains__) == (
        "/n/new-1_VARS.fd"
    )


def test_every_option_of_the_manual_page_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    words = (
        "--connect qemu+ssh://kvm02/system -o web -n new -u 0123456789abcdef0123456789abcdef "
        "-f /i/a.img --file b.img --force-copy hdc --skip-copy vdb --skip-copy vdc --nonsparse "
        "--nvram /n/v.fd -m RANDOM --mac 52:54:00:AA:bb:cc --print-xml --replace --check "
        "mac_in_use=off --check disk_size=off,path_exists=off -q -d --prompt"
    )

    assert parse_options(words.split()) == Options(
        connect="qemu+ssh://kvm02/system",
        original="web",
        name="new",
        uuid="01234567-89ab-cdef-0123-456789abcdef",
        files=("/i/a.img", "/b.img"),
        force_copy=frozenset({"hdc"}),
        skip_copy=frozenset({"vdb", "vdc"}),
        nonsparse=True,
        nvram="/n/v.fd",
        macs=("", "52:54:00:aa:bb:cc"),
        print_xml=True,
        replace=True,
        off=frozenset({Check.MAC_IN_USE, Check.DISK_SIZE, Check.PATH_EXISTS}),
        quiet=True,
        debug=True,
    )
    assert parse_options([*AUTO, "--preserve", "--refl"]).reflink  # abbreviated, as argparse does


def test_what_cockpit_runs_is_understood() -> None:
    words = ["--connect", "qemu:///system", "--original", "web", "--name", "new", "--auto-clone"]

    assert parse_options(words) == Options(
        connect="qemu:///system", original="web", name="new", auto_clone=True
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--auto-clone",),
        ("--original", "web"),
        ("--original", "web", "--name", "new"),
        (*AUTO, "--original-xml", "x"),
        (*AUTO, "-m", "52:54:00"),
        (*AUTO, "-m", "01:00:5e:00:00:01"),
        (*AUTO, "-u", "zz"),
        (*AUTO, "--check", "all"),
        (*AUTO, "--check", "sun=off"),
        (*AUTO, "--force-copy", "vda", "--skip-copy", "vda"),
        (*AUTO, "--reflink", "--nonsparse"),
    ],
)
def test_what_makes_no_sense_is_refused(words: Sequence[str]) -> None:
    with pytest.raises(UsageError):
        parse_options(words)


def test_an_option_that_does_not_exist_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_options([*AUTO, "--bogus"])

    assert left.value.code == 2
    assert "--bogus" in capsys.readouterr().err


def test_all_checks_can_be_turned_off_and_one_on_again() -> None:
    off = parse_options([*AUTO, "--check", "all=off", "--check", "disk_size=on"]).off

    assert off == frozenset(Check) - {Check.DISK_SIZE}


def test_the_connection_is_libvirts_own_choice_when_none_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu+ssh://kvm03/system")

    assert parse_options(AUTO).connect == "qemu+ssh://kvm03/system"


def test_a_uri_is_always_the_same_host() -> None:
    remote = record_for("qemu+ssh://root@kvm02/system")

    assert record_for("qemu:///system").name == "local"
    assert remote == record_for("qemu+ssh://root@kvm02/system")
    assert remote.name.startswith("kvm02-")
    assert remote.name != record_for("qemu+tls://kvm02/system").name
    assert record_for("qemu+ssh://[2001:db8::1]/system").name.startswith("2001-db8-1-")
    assert is_here("qemu:///session")
    assert not is_here("qemu+unix:///system?socket=/run/x")


MANY = (
    a_vm("web")
    .with_disk("vda")
    .with_disk("vdb")
    .with_disk("vdc", inside="<readonly/>")
    .with_disk("vdd", inside="<transient shareBacking='yes'/>")
    .with_device("<disk type='file' device='cdrom'><target dev='hdc'/><readonly/></disk>")
    .xml()
)


def chosen(*words: str, taken: frozenset[str] = frozenset()) -> dict[str, tuple[str, str]]:
    """What becomes of the disks of a VM with many."""
    found = choices(
        read.disks(MANY),
        parse_options([*AUTO, *words]),
        ("web", "new"),
        shared_backing=shared_backing(MANY),
        there=taken.__contains__,
    )
    return {choice.target: (choice.way.value, choice.path) for choice in found}


def test_disks_that_one_vm_writes_to_are_cloned_the_others_shared() -> None:
    ways = {target: way for target, (way, _) in chosen().items()}

    assert ways == {"vda": "copy", "vdb": "copy", "vdc": "share", "vdd": "share", "hdc": "share"}


def test_force_and_skip_decide_otherwise_but_an_empty_drive_has_nothing_to_clone() -> None:
    said = chosen("--force-copy", "vdc", "--force-copy", "hdc", "--skip-copy", "vda")

    assert [target for target, (way, _) in said.items() if way == "copy"] == ["vdb", "vdc"]


def test_files_are_taken_in_order_by_the_disks_that_are_cloned() -> None:
    said = chosen("--skip-copy", "vda", "--file", "/x/1", "--file", "/x/2", "--file", "/x/3")

    assert said["vda"] == ("share", "")
    assert said["vdb"] == ("copy", "/x/1")


def test_two_disks_never_get_one_file() -> None:
    text = a_vm("web").with_disk("vda").with_disk("vdb").xml()
    text = text.replace(read.disks(text)[1].path, "/images/new.qcow2")
    text = text.replace(read.disks(text)[0].path, "/images/web.qcow2")
    options = parse_options(AUTO)
    found = choices(read.disks(text), options, ("web", "new"), there=lambda _: False)

    assert len({choice.path for choice in found}) == len(found)


def test_too_few_files_are_said_instead_of_a_crash() -> None:
    disks = read.disks(a_vm("web").with_disk("vda").with_disk("vdb").xml())
    options = parse_options(["--original", "web", "--name", "new", "--file", "/x/1"])

    with pytest.raises(UsageError, match="2 disks are to be cloned, 1 files are given"):
        choices(disks, options, ("web", "new"), there=lambda _: False)


def test_preserved_data_is_taken_as_it_is() -> None:
    text = a_vm("web").with_disk("vda").xml()
    options = parse_options([*AUTO, "--preserve-data", "--file", "/x/1"])

    assert choices(read.disks(text), options, ("web", "new"), there=lambda _: True) == (
        DiskChoice(target="vda", way=DiskWay.KEEP, path="/x/1"),
    )


def test_a_target_that_is_not_there_is_known() -> None:
    options = parse_options([*AUTO, "--skip-copy", "vdz", "--force-copy", "vda"])

    assert unknown_targets(read.disks(MANY), options) == ("vdz",)


def test_fewer_macs_than_interfaces_are_filled_up_and_more_do_not_matter() -> None:
    nic = "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
    text = a_vm("web").with_device(nic).with_device(nic).xml()
    given = ("52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c")

    assert macs_of(text, "-m", given[0])[0] == given[0]
    assert macs_of(text, "-m", "RANDOM", "-m", given[1])[1] == given[1]
    assert macs_of(text, *(word for mac in given for word in ("-m", mac))) == given[:2]


def macs_of(text: str, *words: str) -> tuple[str, ...]:
    """The addresses a clone gets."""
    source = order.Source(name="web", uuid=SOURCE_UUID, xml=text)
    made = order.make(source, parse_options([*AUTO, *words]), "new", lambda _: False)
    return tuple(nic.mac for nic in read.summary(made.definition()).nics)


def test_the_request_asks_for_what_is_printed() -> None:
    text = a_vm("web").with_disk("vda").xml()
    source = order.Source(name="web", uuid=SOURCE_UUID, xml=text)
    made = order.make(source, parse_options([*AUTO, "--nonsparse"]), "new", lambda _: False)
    request, printed = made.request("web", "local"), parse(made.definition())

    assert (request.name, request.uuid) == (printed.findtext("name"), printed.findtext("uuid"))
    assert request.disks[0].path == read.disks(made.definition())[0].path
    assert request.full_allocation


def test_a_printed_definition_holds_passwords_and_no_mark() -> None:
    text = a_vm("web").with_device("<graphics type='vnc' port='5901' passwd='secret'/>").xml()

    printed = printed_by_us(text)

    assert "secret" in printed
    assert "twinship" not in printed


FEW = [case for case in cases() if case.label.endswith(" 3")]


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.label)
def test_what_is_printed_is_virt_clones_but_for_the_listed_paths(
    case: Case, tmp_path: Path
) -> None:
    """A handful; the host tests have all of them."""
    assert {path for path in differing(case, tmp_path) if listed(path) is None} == set()


def test_the_page_lists_every_path_that_may_differ() -> None:
    text = PAGE.read_text()

    assert [path for path in DIFFERENCES if f"- `{path}`: " not in text] == []


def test_there_are_many_definitions_to_compare() -> None:
    assert len(list(cases())) > 100
