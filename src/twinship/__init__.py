"""Twinship: clones KVM virtual machines and moves them between hosts, over plain libvirt.

The public face is :class:`twinship.Controller`; what it takes and gives back is in
:mod:`twinship.model`. Both are loaded on first use, so that ``import twinship`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinship.controller import Controller
    from twinship.model.errors import TwinshipError

__version__ = "0.1.0"
__all__ = ["Controller", "TwinshipError", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Controller":
        from twinship.controller import Controller

        return Controller
    if name == "TwinshipError":
        from twinship.model.errors import TwinshipError

        return TwinshipError
    raise AttributeError(f"module 'twinship' has no attribute {name!r}")
