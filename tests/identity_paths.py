"""The identity table's paths, used on definitions; and a clone's definition made of one."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any, cast

from lxml import etree

from twinship.domxml.document import parse, serialize
from twinship.domxml.identity import TABLE, Action, NewIdentity, renew
from twinship.domxml.read import summary

CHANGED = (Action.RENEW, Action.DROP)
TOLD = (Action.KEEP, Action.ASK)
CLONE = "web-clone"


def clone_of(text: str) -> str:
    """The definition of a clone of the VM ``web``."""
    root = parse(text)
    macs = tuple(f"52:54:00:ff:00:{n:02x}" for n in range(len(root.findall("devices/interface"))))
    new = NewIdentity(
        old_name="web",
        name=CLONE,
        uuid="aaaaaaaa-0000-4000-8000-000000000001",
        genid="bbbbbbbb-0000-4000-8000-000000000002",
        macs=macs,
        nvram=f"/nvram/{CLONE}_VARS.fd" if summary(text).nvram else "",
    )
    renew(root, new)
    return serialize(root)


def without(text: str, actions: Collection[Action], paths: Collection[str] = ()) -> str:
    """The definition with nothing left where rows with these actions, or the paths, point to."""
    root = parse(text)
    rows = (row.path for row in TABLE if row.action in actions)
    for path in (each for braced in (*rows, *paths) for each in spelled_out(braced)):
        for found in cast(list[Any], _compiled(path)(root)):
            owner = found.getparent()
            if isinstance(found, etree._Element):
                owner.remove(found)
            elif found.is_attribute:
                del owner.attrib[found.attrname]
            else:
                owner.text = None
    return etree.tostring(root, method="c14n").decode()


@functools.cache
def spelled_out(path: str) -> tuple[str, ...]:
    """``a/{b,c}`` as ``a/b`` and ``a/c``."""
    braces = re.search(r"\{([^{}]*)\}", path)
    if braces is None:
        return (path,)
    names = braces.group(1).split(",")
    each = (f"{path[: braces.start()]}{name}{path[braces.end() :]}" for name in names)
    return tuple(found for one in each for found in spelled_out(one))


@functools.cache
def _compiled(path: str) -> etree.XPath:
    return etree.XPath(path)
