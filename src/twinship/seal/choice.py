"""What a choice of seal operations means: the rows, and the keys, read from where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinship.guestfs.sealing import TABLE, Operation, choose, load_own, needs_appliance
from twinship.model.errors import UsageError
from twinship.model.request import SealChoice

MOST_KEY_BYTES = 64 * 1024
"""More than any passphrase or key file of LUKS's usual sizes."""


def operations_of(choice: SealChoice) -> tuple[Operation, ...]:
    """The operations to do. Raises :class:`UsageError` for names and files that cannot be used."""
    return choose(
        only=choice.only, except_=choice.except_, also=choice.also, own=_own_operations(choice)
    )


def known_operations(choice: SealChoice) -> tuple[Operation, ...]:
    """All operations that can be chosen among, the user's own last."""
    return (*TABLE, *_own_operations(choice))


def runs_inside(choice: SealChoice) -> bool:
    """Whether something is to be run in the guest, which needs the appliance."""
    return needs_appliance(operations_of(choice))


def keys_of(choice: SealChoice) -> Mapping[str, str]:
    """The keys by LUKS UUID. Raises :class:`UsageError` for a file that cannot be read."""
    return {uuid: _key(Path(file)) for uuid, file in choice.keys}


def choice_document(choice: SealChoice) -> dict[str, Any]:
    """A choice as plain values; holds no key."""
    return asdict(choice)


def choice_from(document: Mapping[str, Any]) -> SealChoice:
    """The choice such values were made of."""
    return SealChoice(
        only=tuple(document["only"]),
        except_=tuple(document["except_"]),
        also=tuple(document["also"]),
        own=tuple(document["own"]),
        keys=tuple((uuid, file) for uuid, file in document["keys"]),
        recover=document["recover"],
    )


def _own_operations(choice: SealChoice) -> tuple[Operation, ...]:
    own = tuple(row for place in choice.own for row in load_own(Path(place)))
    names = [row.name for row in own]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two operations of yours are called {name}", code="OWN_OPERATION")
    return own


def _key(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the key {file} cannot be read", cause=error.strerror or "") from None
    if len(data) > MOST_KEY_BYTES:
        raise UsageError(f"the key {file} has more than {MOST_KEY_BYTES} bytes")
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise UsageError(f"the key {file} is no text; only passphrases can be used") from None
