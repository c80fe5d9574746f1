"""The facts a plan stands on: named, compared just before it is applied.

Only what the plan depends on is bound: that the disk still fits, not how much is free.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def digest(text: str) -> str:
    """A short name for a long text; equal for equal texts."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """What differs, each as a sentence; empty when the plan still holds."""
    sentences = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None:
            sentences.append(f"{name} is new: {new}")
        elif new is None:
            sentences.append(f"{name} is gone (was {old})")
        else:
            sentences.append(f"{name} was {old}, is {new}")
    return tuple(sentences)
