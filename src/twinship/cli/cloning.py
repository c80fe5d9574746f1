"""``twinship clone``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from twinship.cli import asked
from twinship.cli.completion import complete_host, complete_vm
from twinship.cli.outcome import accepted, finish, progress
from twinship.cli.quantities import Memory, seconds, size
from twinship.cli.render import output_option, print_plan, visible
from twinship.cli.session import Session
from twinship.cli.verbs import bandwidth_option, dry_run_option, wait_option
from twinship.model.errors import UsageError
from twinship.model.operation import Operation
from twinship.model.request import CloneMode, CloneRequest, FirstBootWay, StateWay
from twinship.planning.pattern import MOST


@click.command()
@click.argument("source", metavar="VM", shell_complete=complete_vm)
@click.argument("new", nargs=-1)
@click.option("--count", type=click.IntRange(1, MOST), help="Make that many clones.")
@click.option("--name", "pattern", default="", metavar="PATTERN", help="Their names: 'web{n:03}'.")
@click.option("--first", default=1, show_default=True, type=click.IntRange(0), help="Number from.")
@click.option("--keep-going", is_flag=True, help="Of many: keep those that worked.")
@click.option("--to", "to", default="", metavar="HOST", shell_complete=complete_host, help="Where.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "full", "linked"]),
    default="auto",
    show_default=True,
    help="linked: a thin disk over the source's. full: shares nothing. auto: linked to a template, "
    "else full, but what the source is itself based on stays shared.",
)
@click.option(
    "--disk",
    "disks",
    multiple=True,
    metavar="TARGET=WAY",
    help="For one disk: vda=copy, share, drop, keep:/FILE or path:/FILE.",
)
@click.option("--vcpus", type=click.IntRange(1), help="Virtual CPUs; else as the source.")
@click.option("--memory", type=Memory(), help="Memory; else as the source: 4GiB.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NIC=NAME",
    help="For one interface, from 0: 0=NETWORK, 1=bridge:BRIDGE.",
)
@click.option("--hostname", default="", help="The guest's host name; auto: made of the VM's.")
@click.option(
    "--ssh-key",
    "ssh_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public keys for the guest's root.",
)
@click.option(
    "--first-boot",
    type=click.Choice([way.value for way in FirstBootWay]),
    default="auto",
    show_default=True,
    help="How the guest is told host name and keys: systemd credentials, or a cloud-init image.",
)
@click.option(
    "--nvram",
    default="copy",
    show_default=True,
    metavar="copy|fresh|refuse|PATH",
    help="Its firmware variables; PATH: where the copy goes.",
)
@click.option(
    "--tpm",
    type=click.Choice([way.value for way in StateWay]),
    default="refuse",
    show_default=True,
    help="Its TPM: with the keys of the source's, or one of its own.",
)
@click.option("--grow", multiple=True, metavar="TARGET=SIZE", help="Larger disks: vda=40GiB.")
@click.option("--pool", default="", help="The pool for the new disks; default: beside the old.")
@click.option(
    "--mac",
    "macs",
    multiple=True,
    help="For the interfaces in order; else random. Of many clones: from 52:54:00:aa:00:00+ on.",
)
@click.option(
    "--ip",
    "addresses",
    default="",
    metavar="RANGE",
    help="Reserve an address in the libvirt network of the first interface: "
    "192.168.122.50-192.168.122.90.",
)
@click.option("--uuid", default="", help="The UUID of the clone; else random.")
@click.option("--snapshot", default="", metavar="NAME", help="Not as it is: as at that snapshot.")
@click.option("--start", is_flag=True, help="Start the clone.")
@click.option("--wait-boot", is_flag=True, help="With --start: wait until its guest is up.")
@click.option("--verify", is_flag=True, help="Compare the content of copy and source as well.")
@bandwidth_option
@wait_option
@dry_run_option
@output_option
@click.pass_context
def clone(
    ctx: click.Context,
    source: str,
    new: tuple[str, ...],
    count: int | None,
    pattern: str,
    first: int,
    keep_going: bool,
    to: str,
    mode: str,
    disks: tuple[str, ...],
    vcpus: int | None,
    memory: int | None,
    networks: tuple[str, ...],
    hostname: str,
    ssh_key: Path | None,
    first_boot: str,
    nvram: str,
    tpm: str,
    grow: tuple[str, ...],
    pool: str,
    macs: tuple[str, ...],
    addresses: str,
    uuid: str,
    snapshot: str,
    start: bool,
    wait_boot: bool,
    verify: bool,
    bandwidth: int | None,
    wait: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Copy a VM, running or shut off, with a name, UUID, MACs and NVRAM of its own.

    Of a running one all disks are of one instant, and it runs on as it was.

    \b
    Examples:
      twinship clone web web-2
      twinship clone kvm01/web --dry-run        what would happen
      twinship clone web web-test --start --wait-boot
      twinship clone web web-thin --mode linked
      twinship clone web --count 20 --name 'web{n:02}' --mode linked
      twinship clone web web-2 --to kvm02 --disk vdb=drop
      twinship clone web web-old --snapshot before-upgrade
      twinship clone web --count 5 --name 'web{n}' --ip 192.168.122.50-192.168.122.60
    """
    session: Session = ctx.obj
    names = asked.names_of(new, count, pattern, first)
    nvram_way, nvram_path = asked.nvram(nvram)
    mac_range = macs[0] if len(macs) == 1 and set(macs[0]) & set("+,") else ""
    given = bool(macs) and not mac_range
    if len(names) > 1 and (uuid or given or nvram_path or any(":" in text for text in disks)):
        raise UsageError(
            "--uuid, single MACs, the path of --nvram and those of disks are for one clone",
            hint="a range of MACs: --mac 52:54:00:aa:00:00+",
        )
    request = CloneRequest(
        vm=source,
        name=names[0] if len(names) == 1 else "",
        to=to,
        mode=CloneMode(mode),
        disks=tuple(asked.disk_choice(text) for text in disks),
        vcpus=vcpus or 0,
        memory_bytes=memory or 0,
        nics=tuple(asked.nic(text) for text in networks),
        hostname=hostname,
        ssh_keys=asked.keys(ssh_key),
        first_boot=FirstBootWay(first_boot),
        nvram=nvram_path,
        nvram_way=nvram_way,
        tpm_way=StateWay(tpm),
        grow=tuple(asked.grown(text) for text in grow),
        mac_range=mac_range,
        address_range=addresses,
        pool=pool,
        uuid=asked.uuid_of(uuid),
        macs=() if mac_range else tuple(asked.mac_of(mac) for mac in macs),
        snapshot=snapshot,
        start=start or wait_boot,
        rate=bandwidth or 0,
        verify=verify,
    )
    if dry_run:
        plan = (
            session.controller.clone_plan(request)
            if len(names) == 1
            else session.controller.clone_many_plan(request, names, keep_going=keep_going)
        )
        print_plan(plan, output)
        ctx.exit(0 if plan.feasible else 5)
    line = progress(output)
    try:
        op = (
            session.controller.clone(request, wait=wait, watch=line)
            if len(names) == 1
            else session.controller.clone_many(
                request, names, keep_going=keep_going, wait=wait, watch=line
            )
        )
    finally:
        line.close()
    if not wait:
        accepted(op, output)
        return
    for made in (op.result or {}).get("clones", []) if wait_boot else ():
        if made["started"]:
            session.controller.wait_boot(f"{made['host']}/{made['uuid']}", 120)
    finish(ctx, op, output, _told_clone)


def _told_clone(op: Operation) -> None:
    for lost in (op.result or {}).get("failed", []):
        error = lost["error"] or {}
        click.echo(f"{visible(lost['name'])} was not made: {error.get('message')}", err=True)
    for made in (op.result or {}).get("clones", []):
        took = max((disk["seconds"] for disk in made["disks"]), default=0.0)
        copied = sum(disk["bytes_copied"] for disk in made["disks"])
        methods = ", ".join(dict.fromkeys(disk["method"] for disk in made["disks"])) or "no disk"
        how = f"{size(copied)} on disk, copied in {seconds(took)}" if copied else methods
        click.echo(f"{visible(made['name'])} is there on {made['host']} ({how})")
        if made.get("restarts"):
            click.echo(f"  the link broke: copied anew, {made['restarts']} times", err=True)
        for disk in made["disks"] if copied else ():
            for rung in disk["why_not_faster"][:1]:
                click.echo(f"  {disk['target']}: no {rung['method']}: {rung['reason']}", err=True)
        if made["started"]:
            click.echo("  it runs")
        elif made["start_error"]:
            error = made["start_error"]
            click.echo(f"  it did not start: {visible(str(error['cause'] or error['message']))}")
    if source := (op.result or {}).get("source"):
        click.echo(f"  {_felt(source)}", err=True)


def _felt(source: Mapping[str, Any]) -> str:
    """What a running source felt of being cloned."""
    moment = "filesystems frozen" if source["frozen"] else "not frozen, as after a power cut"
    text = f"the source runs on; its disks were held within {seconds(source['pause_s'])} ({moment})"
    if source["pause_guest_s"] is not None:
        text += f"; the guest stood still for {seconds(source['pause_guest_s'])}"
    return text
