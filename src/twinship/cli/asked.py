"""What ``twinship clone`` is told, as words, made into what a request holds."""

from __future__ import annotations

from pathlib import Path

import click

from twinship.cli.quantities import Size
from twinship.model.errors import UsageError
from twinship.model.request import DiskChoice, DiskWay, StateWay
from twinship.planning.pattern import expand


def names_of(new: tuple[str, ...], count: int | None, pattern: str, first: int) -> tuple[str, ...]:
    """The names asked for; empty ones are to be found."""
    if new and (count is not None or pattern):
        raise UsageError("give names, or --count with --name, not both")
    if new:
        if len(set(new)) != len(new):
            raise UsageError("a name is given twice")
        return new
    if pattern:
        return expand(pattern, first, count or 1)
    return ("",) * (count or 1)


def nic(text: str) -> tuple[int, str, str]:
    """``0=lan``, ``1=network:lan``, ``0=bridge:br0``."""
    index, equals, said = text.partition("=")
    kind, colon, name = said.partition(":")
    join, name = (kind, name) if colon else ("network", said)
    if not index.isdecimal() or not equals or join not in ("network", "bridge") or not name:
        raise UsageError(
            f"--network {text!r} cannot be understood", hint="0=NETWORK or 0=bridge:BRIDGE"
        )
    return int(index), join, name


def grown(text: str) -> tuple[str, int]:
    """``vda=40GiB``."""
    target, equals, size = text.partition("=")
    if not target or not equals:
        raise UsageError(f"--grow {text!r} cannot be understood", hint="vda=40GiB")
    return target, int(Size().convert(size, None, None))


def nvram(text: str) -> tuple[StateWay, str]:
    """``copy``, ``fresh``, ``refuse``, or the path of the copy."""
    if text.startswith("/"):
        return StateWay.COPY, text
    try:
        return StateWay(text or "copy"), ""
    except ValueError:
        raise UsageError(
            f"--nvram {text!r} cannot be understood", hint="copy, fresh, refuse or /PATH"
        ) from None


def keys(file: Path | None) -> tuple[str, ...]:
    """The public keys in a file."""
    if file is None:
        return ()
    from twinship.clone.firstboot import public_keys

    return public_keys(file.read_text(errors="replace"))


def disk_choice(text: str) -> DiskChoice:
    """``vda=copy``, ``vda=share``, ``vda=drop``, ``vda=keep:/FILE``, ``vda=path:/FILE``."""
    target, equals, said = text.partition("=")
    way, _, path = said.partition(":")
    ways = {
        "copy": DiskWay.COPY,
        "path": DiskWay.COPY,
        "share": DiskWay.SHARE,
        "drop": DiskWay.DROP,
        "keep": DiskWay.KEEP,
    }
    if not target or not equals or way not in ways or (way in ("path", "keep")) != bool(path):
        raise UsageError(
            f"--disk {text!r} cannot be understood",
            hint="vda=copy, vda=share, vda=drop, vda=keep:/FILE or vda=path:/FILE",
        )
    return DiskChoice(target=target, way=ways[way], path=path)


def uuid_of(text: str) -> str:
    """A UUID in libvirt's own writing; empty stays empty."""
    import uuid

    if not text:
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no UUID", param_hint="--uuid") from None


def mac_of(text: str) -> str:
    """A MAC address in lower case."""
    import re

    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", text) or int(text[:2], 16) & 1:
        raise click.BadParameter(
            f"{text!r} is no MAC address of a single interface (52:54:00:12:34:56)",
            param_hint="--mac",
        )
    return text.lower()
