"""``twinship lab``: real KVM hosts in namespaces of this machine, to try and test with.

``twinship_lab`` is imported inside the commands only, so that the rest of the
command line does not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from twinship.cli.quantities import Rate, Size
from twinship.cli.render import output_option, print_document, print_table
from twinship.cli.session import open_controller
from twinship.model.errors import Busy, NotAllowed, NotFound, TwinshipError, UsageError
from twinship.model.host import HostRecord

if TYPE_CHECKING:
    from twinship_lab import Lab, LabError, LabHost, LabStatus


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """Real KVM hosts on this one machine, to try and test with.

    Every host has a libvirtd, QEMU, file tree and network address of its own, in
    namespaces; the real hosts and this machine's own libvirt are never touched.
    The state is kept in /var/lib/twinship-lab, or where TWINSHIP_LAB_DIR says.
    All commands need root.
    """


@lab.command()
@click.option("--hosts", default=2, show_default=True, help="How many hosts there are to be.")
def up(hosts: int) -> None:
    """Bring the lab up, or mend it.

    What runs is kept. Hosts that are missing are added, what died is started
    again, frozen daemons are thawed and cut links mended.

    \b
    Examples:
      twinship lab up
      twinship lab up --hosts 3
    """
    with _lab() as opened:
        running = opened.up(hosts, _say)
    _register(running)
    print_table(("HOST", "ADDRESS", "URI"), [(h.name, h.address, h.uri) for h in running])


@lab.command()
def down() -> None:
    """Take the lab down: its guests, hosts, networks and disks are gone; its cache stays.

    \b
    Example:
      twinship lab down
    """
    with _lab() as opened:
        opened.down(_say)


@lab.command()
@output_option
def status(output: str) -> None:
    """Show hosts, daemons, links, guests and shared disks.

    \b
    Examples:
      twinship lab status
      twinship lab status -o json
    """
    with _lab() as opened:
        seen = opened.status()
    if output == "name":
        for host in seen.hosts:
            click.echo(host.name)
    elif output in ("table", "wide"):
        _print_status(seen)
    else:
        print_document(_document(seen), output)


@lab.command(context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, host: str, command: tuple[str, ...]) -> None:
    """Run a command on HOST; its input, output and exit code are the command's own.

    \b
    Examples:
      twinship lab run lab1 -- virsh list --all
      twinship lab run lab2 -- bash
    """
    with _lab() as opened:
        code = _run_through(opened.host(host), command)
    ctx.exit(code)


@lab.command()
@click.argument("host")
@click.option("--rate", type=Rate(), help="Limit the data link, each way: 50MB/s.")
@click.option("--unlimited", is_flag=True, help="Lift the limit.")
@click.option("--up/--down", "is_up", default=None, help="Mend or cut the link.")
@click.option(
    "--which",
    type=click.Choice(["data", "control", "both"]),
    default="data",
    show_default=True,
    help="data: between the hosts. control: from this machine to libvirtd.",
)
def link(host: str, rate: int | None, unlimited: bool, is_up: bool | None, which: str) -> None:
    """Shape, cut or mend the links of HOST. A cut link is a black hole.

    \b
    Examples:
      twinship lab link lab1 --rate 50MB/s
      twinship lab link lab1 --down --which control
      twinship lab link lab1 --up --which both --unlimited
    """
    if rate is None and not unlimited and is_up is None:
        raise UsageError("nothing to do", hint="give --rate, --unlimited, --up or --down")
    if rate is not None and unlimited:
        raise UsageError("--rate and --unlimited exclude each other")
    with _lab() as opened:
        from twinship_lab import Link

        opened.host(host).link(which=Link(which), up=is_up, rate_bytes_s=rate, unlimited=unlimited)


@lab.command()
@click.argument("host")
@click.argument("action", type=click.Choice(["stop", "kill", "start", "freeze", "thaw"]))
def daemon(host: str, action: str) -> None:
    """Stop, kill, start, freeze or thaw the libvirtd of HOST. Guests go on.

    \b
    Examples:
      twinship lab daemon lab1 kill
      twinship lab daemon lab2 freeze
    """
    with _lab() as opened:
        from twinship_lab import DaemonAction

        opened.host(host).daemon(DaemonAction(action))


@lab.command()
@click.argument("name")
@click.option("--host", default="lab1", show_default=True, help="Where it is made.")
@click.option("--memory", type=Size(), default="256MiB", show_default=True)
@click.option("--disk", "disks", type=Size(), multiple=True, help="A disk; may be repeated.")
@click.option("--format", "form", type=click.Choice(["qcow2", "raw"]), default="qcow2")
@click.option("--data", type=Size(), default="0", help="Random data in the first half of each.")
@click.option("--shared", type=Size(), help="A disk that all hosts reach over the network.")
@click.option("--dirty", type=Rate(), help="Memory the guest writes: 20MB/s.")
@click.option("--writes", type=Rate(), help="What it writes to its disks: 100kB/s.")
@click.option("--uefi", is_flag=True, help="UEFI firmware instead of BIOS.")
@click.option("--debian", is_flag=True, help="A real Debian instead, to seal and clone.")
@click.option("--network", default="", help="Of the Debian guest: the libvirt network it is in.")
@click.option("--rom", is_flag=True, help="The ROM guest instead: no Linux, checks its memory.")
@click.option("--start", is_flag=True, help="Start it.")
def guest(
    name: str,
    host: str,
    memory: int,
    disks: tuple[int, ...],
    form: str,
    data: int,
    shared: int | None,
    dirty: int | None,
    writes: int | None,
    uefi: bool,
    debian: bool,
    network: str,
    rom: bool,
    start: bool,
) -> None:
    """Make a small Linux VM that ticks: it is up in seconds and tells how long it stood still.

    With --rom it is a VM without an operating system, up at once, that writes over its memory in a
    fixed order and says on its console when a page does not hold what it wrote. With --debian it is
    a real Debian 12 with systemd, sshd and the agent; the first one is built in about a minute.

    \b
    Examples:
      twinship lab guest web --disk 1GiB --data 200MB
      twinship lab guest busy --host lab2 --shared 64MiB --dirty 20MB/s --start
      twinship lab guest installed --debian --start
      twinship lab guest strict --rom --memory 32MiB --dirty 20MB/s --start
    """
    if rom and (uefi or writes or debian):
        raise UsageError("--rom excludes --debian, --uefi and --writes")
    if debian and (uefi or writes or dirty):
        raise UsageError("--debian excludes --uefi, --writes and --dirty")
    if network and not debian:
        raise UsageError("--network is for --debian")
    with _lab() as opened:
        from twinship_lab.guests import GuestSpec, Load, NewDisk, RomLoad, create_guest

        spec = GuestSpec(
            disks=tuple(NewDisk(size_bytes=size, format=form, data_bytes=data) for size in disks),
            shared=(opened.share(name, shared),) if shared is not None else (),
            memory_mib=max(1, memory // 2**20),
            load=Load(dirty_bytes_s=dirty or 0, disk_bytes_s=writes or 0),
            rom=RomLoad(dirty_bytes_s=dirty or 0) if rom else None,
            debian=debian,
            network=network,
            uefi=uefi,
            start=start,
        )
        create_guest(opened.host(host), opened.cache, name, spec)
    click.echo(f"{name} is {'started' if start else 'defined'} on {host}", err=True)


def _register(running: Sequence[LabHost]) -> None:
    """Puts the hosts into the lab's own inventory, where ``twinship --lab`` finds them."""
    with open_controller(lab=True) as controller:
        known = {record.name: record for record in controller.inventory.records()}
        for host in running:
            wanted = HostRecord(name=host.name, uri=host.uri, address=host.address, site="lab")
            if known.get(host.name) == wanted:
                continue
            if host.name in known:
                controller.host_remove(host.name)
            controller.inventory.add(wanted)


@contextmanager
def _lab() -> Iterator[Lab]:
    """The lab of this machine; what it raises becomes an error of ours."""
    from twinship_lab import Lab, LabError
    from twinship_lab.programs import require_root

    try:
        require_root()
        yield Lab()
    except LabError as error:
        raise _translated(error) from error


def _translated(error: LabError) -> TwinshipError:
    from twinship_lab import LabBusy, NeedsRoot, Unknown

    kinds: tuple[tuple[type[LabError], type[TwinshipError]], ...] = (
        (NeedsRoot, NotAllowed),
        (Unknown, NotFound),
        (LabBusy, Busy),
    )
    kind = next((ours for theirs, ours in kinds if isinstance(error, theirs)), TwinshipError)
    return kind(error.message, cause=error.cause, hint=error.hint)


def _run_through(host: LabHost, command: Sequence[str]) -> int:
    """Run with this terminal as the command's; the code a shell would give."""
    process = host.popen(command, stdin=None, stdout=None, stderr=None)
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue  # the command got it too, and decides
        return code if code >= 0 else 128 - code


def _say(line: str) -> None:
    click.echo(line, err=True)


def _document(seen: LabStatus) -> dict[str, Any]:
    """The status as JSON has it: enums by value, paths as text."""
    return {
        "root": str(seen.root),
        "network": seen.network,
        "hosts": [{**asdict(host), "daemon": host.daemon.value} for host in seen.hosts],
        "shares": [{**asdict(disk), "path": str(disk.path)} for disk in seen.shares],
    }


def _print_status(seen: LabStatus) -> None:
    if not seen.hosts:
        _say(f"no lab is up in {seen.root}")
        return
    rows = [
        (
            host.name,
            host.address,
            host.daemon.value if host.up else "host down",
            "up" if host.data_up else "cut",
            "up" if host.control_up else "cut",
            f"{host.rate_bytes_s / 1e6:g} MB/s" if host.rate_bytes_s else "unlimited",
            str(host.guests),
        )
        for host in seen.hosts
    ]
    print_table(("HOST", "ADDRESS", "LIBVIRTD", "DATA", "CONTROL", "RATE", "GUESTS"), rows)
    for disk in seen.shares:
        _say(f"shared disk {disk.name}: nbd://{disk.host}:{disk.port}/{disk.export}")
