"""What a host is born with."""

from __future__ import annotations

from pathlib import Path

from twinship_lab.hostfiles import HostIdentity, write_host_files, write_names

IDENTITY = HostIdentity("lab1", "6a3e0f6e-0000-4000-8000-000000000001", "198.18.0.11")


def test_libvirtd_listens_on_the_hosts_address_only(tmp_path: Path) -> None:
    write_host_files(tmp_path, IDENTITY)
    config = (tmp_path / "etc/libvirt/libvirtd.conf").read_text()
    assert 'listen_addr = "198.18.0.11"' in config
    assert IDENTITY.uuid in config


def test_a_boot_empties_run_and_keeps_guests_and_images(tmp_path: Path) -> None:
    write_host_files(tmp_path, IDENTITY)
    stale = tmp_path / "run/libvirtd.pid"
    image = tmp_path / "var/lib/libvirt/images/disk.qcow2"
    domain = tmp_path / "etc/libvirt/qemu/web.xml"
    domain.parent.mkdir()
    for file in (stale, image, domain):
        file.touch()
    write_host_files(tmp_path, IDENTITY)
    assert not stale.exists()
    assert image.exists()
    assert domain.exists()


def test_the_account_libvirtd_asks_for_exists_once(tmp_path: Path) -> None:
    write_host_files(tmp_path, IDENTITY)
    names = [line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    assert names.count("libvirt-qemu") == 1
    assert names.count("root") == 1


def test_names_are_rewritten_in_place_since_the_file_is_mounted(tmp_path: Path) -> None:
    write_host_files(tmp_path, IDENTITY)
    hosts = tmp_path / "etc/hosts"
    before = hosts.stat().st_ino
    write_names(tmp_path, {"lab1": "198.18.0.11", "lab2": "198.18.0.12"})
    assert hosts.stat().st_ino == before
    assert "198.18.0.12 lab2" in hosts.read_text().splitlines()
