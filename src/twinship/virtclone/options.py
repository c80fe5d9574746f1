"""virt-clone's command line: the same options, the same meaning.

Source: the manual page virt-clone(1) of virt-manager 4.1 and 5, and what the program does.
"""

from __future__ import annotations

import argparse
import os
import re
import uuid as uuids
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from twinship import __version__
from twinship.model.errors import UsageError

RANDOM_MAC = "RANDOM"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_ON_OFF = {"on": True, "yes": True, "1": True, "true": True, "y": True}
_ON_OFF |= {"off": False, "no": False, "0": False, "false": False, "n": False}


class Check(StrEnum):
    """The checks that ``--check NAME=off`` turns off."""

    DISK_SIZE = "disk_size"
    PATH_IN_USE = "path_in_use"
    PATH_EXISTS = "path_exists"
    MAC_IN_USE = "mac_in_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for. ``files`` and ``macs`` in their order; an empty MAC is a random one."""

    connect: str
    original: str = ""
    original_xml: str = ""
    auto_clone: bool = False
    name: str = ""
    uuid: str = ""
    files: tuple[str, ...] = ()
    force_copy: frozenset[str] = frozenset()
    skip_copy: frozenset[str] = frozenset()
    nonsparse: bool = False
    preserve_data: bool = False
    nvram: str = ""
    reflink: bool = False
    macs: tuple[str, ...] = ()
    print_xml: bool = False
    replace: bool = False
    off: frozenset[Check] = field(default_factory=frozenset)
    quiet: bool = False
    debug: bool = False


def parse(arguments: Sequence[str]) -> Options:
    """The options of a command line.

    Raises :class:`UsageError` for options that do not go together or values that mean nothing,
    and :class:`SystemExit` where argparse ends the program itself: ``--help``, ``--version`` (0)
    and an option that does not exist (2, as virt-clone does).
    """
    said = _parser().parse_args(list(arguments))
    options = Options(
        connect=said.connect or default_uri(),
        original=said.original or "",
        original_xml=said.original_xml or "",
        auto_clone=said.auto_clone,
        name=said.name or "",
        uuid=_uuid(said.uuid) if said.uuid else "",
        files=tuple(_absolute(path) for path in said.file),
        force_copy=frozenset(said.force_copy),
        skip_copy=frozenset(said.skip_copy),
        nonsparse=said.nonsparse,
        preserve_data=said.preserve_data,
        nvram=_absolute(said.nvram) if said.nvram else "",
        reflink=said.reflink,
        macs=tuple(_mac(mac) for mac in said.mac),
        print_xml=said.print_xml,
        replace=said.replace,
        off=_checks_off(said.check),
        quiet=said.quiet,
        debug=said.debug,
    )
    _refuse_what_lacks(options)
    return options


def default_uri() -> str:
    """The connection when none is named: libvirt's own choice for this user."""
    chosen = os.environ.get("LIBVIRT_DEFAULT_URI", "")
    return chosen or ("qemu:///system" if os.geteuid() == 0 else "qemu:///session")


def _refuse_what_lacks(options: Options) -> None:
    if options.original and options.original_xml:
        raise UsageError("--original and --original-xml exclude each other")
    if not options.original and not options.original_xml:
        raise UsageError("which VM shall be cloned?", hint="name it: --original NAME")
    if not options.auto_clone and not options.name:
        raise UsageError("the clone needs a name", hint="--name NAME, or --auto-clone")
    if not options.auto_clone and not options.files:
        raise UsageError("the clone needs its own disks", hint="--file PATH, or --auto-clone")
    both = sorted(options.force_copy & options.skip_copy)
    if both:
        raise UsageError(f"disk {both[0]} is both to be copied and not to be copied")
    if options.reflink and options.nonsparse:
        raise UsageError("--reflink shares blocks, --nonsparse allocates them: choose one")


def _uuid(text: str) -> str:
    try:
        return str(uuids.UUID(text))
    except ValueError:
        raise UsageError(f"{text[:60]!r} is no UUID", hint="32 hexadecimal digits") from None


def _mac(text: str) -> str:
    if text.upper() == RANDOM_MAC:
        return ""
    if not _MAC.fullmatch(text):
        raise UsageError(f"{text[:60]!r} is no MAC address", hint="for example 52:54:00:12:34:56")
    if int(text[:2], 16) & 1:
        raise UsageError(f"{text} is a multicast address", hint="the first byte has to be even")
    return text.lower()


def _absolute(path: str) -> str:
    """A path as the host takes it; a relative one is meant from here, as in any program."""
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links, on this machine


def _checks_off(values: Sequence[str]) -> frozenset[Check]:
    off: set[Check] = set()
    for part in (part for value in values for part in value.split(",")):
        name, _, word = part.strip().partition("=")
        if name != "all" and name not in list(Check):
            known = ", ".join(["all", *Check])
            raise UsageError(f"there is no check {name[:40]!r}", hint=f"there are: {known}")
        if word.lower() not in _ON_OFF:
            raise UsageError(f"--check {name}: on or off?", hint=f"--check {name}=off")
        meant = set(Check) if name == "all" else {Check(name)}
        off = off - meant if _ON_OFF[word.lower()] else off | meant
    return frozenset(off)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twinship-virt-clone",
        usage="%(prog)s --original NAME (--auto-clone | --name NAME --file PATH...) [OPTION]...",
        description="Clones a VM that is shut off: virt-clone's options, Twinship's way.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI of the host")
    parser.add_argument("--prompt", action="store_true", help=argparse.SUPPRESS)
    _general(parser.add_argument_group("General"))
    _storage(parser.add_argument_group("Storage"))
    network = parser.add_argument_group("Network")
    network.add_argument(
        "-m",
        "--mac",
        action="append",
        default=[],
        metavar="MAC",
        help="MAC address of the next interface, or RANDOM",
    )
    _other(parser.add_argument_group("Other"))
    return parser


def _general(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-o", "--original", metavar="NAME", help="the VM to clone")
    group.add_argument("--original-xml", metavar="FILE", help="a definition to clone instead")
    group.add_argument(
        "--auto-clone", action="store_true", help="find a free name and free paths for the disks"
    )
    group.add_argument("-n", "--name", metavar="NAME", help="name of the clone")
    group.add_argument("-u", "--uuid", metavar="UUID", help="UUID of the clone; random without")
    group.add_argument("--reflink", action="store_true", help="share the disks' blocks, or fail")


def _storage(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-f",
        "--file",
        action="append",
        default=[],
        metavar="PATH",
        help="file of the next disk that is cloned; repeat it",
    )
    for option, words in (
        ("--force-copy", "clone this disk although it would be shared"),
        ("--skip-copy", "share this disk although it would be cloned"),
    ):
        group.add_argument(option, action="append", default=[], metavar="TARGET", help=words)
    group.add_argument("--nonsparse", action="store_true", help="allocate all space at once")
    group.add_argument(
        "--preserve-data", action="store_true", help="take the files as they are, copy nothing"
    )
    group.add_argument("--nvram", metavar="PATH", help="file of the firmware variables")


def _other(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--print-xml", action="store_true", help="print the definition and stop")
    group.add_argument(
        "--replace", action="store_true", help="end and undefine a VM that has the name"
    )
    group.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="NAME=off",
        help=f"turn a check off: {', '.join(['all', *Check])}",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument("-d", "--debug", action="store_true", help="print what is done, in detail")
