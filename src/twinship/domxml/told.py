"""What a clone was told for its first boot, marked so that a clone of it is not told the same.

::

    <twinship:told keys="io.systemd.credential:..." seed="/pool/a-seed.iso"/>
"""

from __future__ import annotations

from collections.abc import Collection

from twinship.domxml.document import parse, serialize
from twinship.domxml.rewrite import mark_of, with_mark, without_mark

KIND = "told"


def with_told(text: str, *, keys: Collection[str] = (), seed: str = "") -> str:
    """The definition with the mark: the keys of its OEM strings, and its seed image."""
    return with_mark(text, KIND, {"keys": " ".join(keys), "seed": seed})


def seed_of(text: str) -> str:
    """The seed image that was made for this VM; empty for none."""
    return (mark_of(text, KIND) or {}).get("seed", "")


def without_told(text: str) -> str:
    """The definition without what its VM alone was told, and without the mark."""
    mark = mark_of(text, KIND)
    if mark is None:
        return text
    root = parse(text)
    keys = frozenset(mark.get("keys", "").split())
    for holder in root.iterfind("sysinfo/oemStrings"):
        for entry in holder.findall("entry"):
            if (entry.text or "").partition("=")[0] in keys:
                holder.remove(entry)
        parent = holder.getparent()
        if len(holder) == 0 and parent is not None:
            parent.remove(holder)
    devices = root.find("devices")
    for disk in root.findall("devices/disk"):
        source = disk.find("source")
        seed = mark.get("seed", "")
        if devices is not None and source is not None and seed and source.get("file") == seed:
            devices.remove(disk)
    return without_mark(serialize(root), KIND)
