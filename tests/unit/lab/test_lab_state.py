"""What the lab intends to hold, and where."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinship.cli.lab import lab as lab_command
from twinship.model.errors import NotAllowed
from twinship_lab import LabBusy, LabError, LabHost, NotReady, programs, state
from twinship_lab.network import choose_network
from twinship_lab.state import HostRecord, LabState, ShareRecord
from twinship_lab.storage import FIRST_PORT, plan_share

A_LAB = LabState(network="198.18.7.0/24")
GIB = 2**30


def test_a_saved_lab_is_read_back(tmp_path: Path) -> None:
    lab = LabState("198.18.7.0/24", (HostRecord(1, 5_000_000),), (ShareRecord("d", 10809, GIB),))
    state.save(tmp_path, lab)
    assert state.load(tmp_path) == lab


def test_where_nothing_was_saved_there_is_no_lab(tmp_path: Path) -> None:
    assert state.load(tmp_path) is None


def test_a_mangled_record_is_said_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text('{"network": ')
    with pytest.raises(NotReady) as caught:
        state.load(tmp_path)
    assert "down" in caught.value.hint


def test_growing_a_lab_keeps_the_hosts_it_has() -> None:
    shaped = A_LAB.with_hosts(1).with_host(HostRecord(1, rate_bytes_s=1_000_000))
    grown = shaped.with_hosts(3)
    assert [host.name for host in grown.hosts] == ["lab1", "lab2", "lab3"]
    assert grown.hosts[0].rate_bytes_s == 1_000_000
    assert grown.with_hosts(2) == grown


def test_addresses_never_meet() -> None:
    addresses = {A_LAB.address(number) for number in range(1, 100)}
    assert len(addresses | {A_LAB.storage_address}) == 100


def test_a_path_too_long_for_a_unix_socket_is_refused_with_its_lengths() -> None:
    with pytest.raises(NotReady) as caught:
        state.lab_root(Path("/" + "x" * 100))
    assert "101" in caught.value.cause
    assert state.DIRECTORY_VARIABLE in caught.value.hint


def test_the_environment_names_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(state.DIRECTORY_VARIABLE, "/srv/lab")
    assert state.lab_root(None) == Path("/srv/lab")
    monkeypatch.delenv(state.DIRECTORY_VARIABLE)
    assert state.lab_root(None) == state.DEFAULT_ROOT


def test_labs_of_two_directories_share_no_name_and_no_uuid() -> None:
    one, two = Path("/srv/one"), Path("/srv/two")
    assert state.lab_id(one) != state.lab_id(two)
    assert state.host_uuid(one, "lab1") != state.host_uuid(two, "lab1")
    assert state.host_uuid(one, "lab1") == state.host_uuid(one, "lab1")


def test_a_directory_with_others_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    state.refuse_foreign(tmp_path)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(NotReady, match=r"thesis\.txt"):
        state.refuse_foreign(tmp_path)


def test_a_second_command_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    second = state.locked(tmp_path, patience_s=0)
    with state.locked(tmp_path), pytest.raises(LabBusy, match=r"process \d+ holds"):
        second.__enter__()
    with state.locked(tmp_path, patience_s=0):
        pass


def test_the_network_avoids_this_machines_routes() -> None:
    taken = [IPv4Network("198.18.0.0/23"), IPv4Network("10.0.0.0/8"), IPv4Network("198.18.2.9/32")]
    assert choose_network(taken) == "198.18.3.0/24"
    with pytest.raises(NotReady):
        choose_network([IPv4Network("198.18.0.0/15")])


def test_shared_disks_get_ports_of_their_own_and_keep_them() -> None:
    first = plan_share(A_LAB, "a", GIB)
    lab = LabState(A_LAB.network, shares=(first, ShareRecord("c", FIRST_PORT + 2, GIB)))
    assert plan_share(lab, "b", GIB).port == FIRST_PORT + 1
    assert plan_share(lab, "a", GIB) == first


@pytest.mark.parametrize(("name", "size_bytes"), [("../a", GIB), ("", GIB), ("a", 0), ("a", 513)])
def test_a_shared_disk_that_cannot_be_is_refused(name: str, size_bytes: int) -> None:
    with pytest.raises(LabError):
        plan_share(A_LAB, name, size_bytes)


def test_a_shared_disk_does_not_change_its_size() -> None:
    lab = LabState(A_LAB.network, shares=(ShareRecord("a", FIRST_PORT, GIB),))
    with pytest.raises(LabError, match=str(GIB)):
        plan_share(lab, "a", 2 * GIB)


def test_every_missing_program_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SEARCH_PATH", "/nowhere")
    with pytest.raises(NotReady) as caught:
        programs.require_programs()
    assert all(name in caught.value.cause for name in programs.REQUIRED)
    assert "script/bootstrap" in caught.value.hint


def test_a_hosts_own_files_are_seen_below_its_root_and_all_others_where_they_are() -> None:
    host = LabHost("lab1", "198.18.0.11", Path("/srv/lab"))
    assert host.images == Path("/srv/lab/hosts/lab1/var/lib/libvirt/images")
    assert host.outside("/etc/hosts") == Path("/srv/lab/hosts/lab1/etc/hosts")
    assert host.outside("/etc/hosts.allow") == Path("/etc/hosts.allow")
    assert host.outside("/usr/bin/virsh") == Path("/usr/bin/virsh")
    assert host.uri == "qemu+unix:///system?socket=/srv/lab/control/lab1/sock"
    assert host.tcp_uri == "qemu+tcp://198.18.0.11/system"


def test_without_root_the_command_says_so_and_exits_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = CliRunner().invoke(lab_command, ["up"])
    assert isinstance(done.exception, NotAllowed)
    assert done.exception.exit_code == 4
