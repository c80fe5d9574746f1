"""Sizes, rates and times as people write and read them."""

from __future__ import annotations

import re

import click

_UNITS = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$")
_TIME = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|min|h)?$")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}

LEAST_MEMORY_BYTES = 1024 * 1024


class Rate(click.ParamType[int]):
    """Bytes a second: ``50MB/s``."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Bytes a second."""
        if isinstance(value, int):
            return value
        match = _SIZE.match(str(value).strip().removesuffix("/s"))
        if match is None or match[2] not in _UNITS or float(match[1]) * _UNITS[match[2]] < 1:
            self.fail(f"{value!r} is no rate; for example 50MB/s or 1GiB/s", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


class Size(click.ParamType[int]):
    """Bytes: ``2GiB``."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.match(str(value).strip())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is no size; for example 500MB or 2GiB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


class Memory(Size):
    """Bytes of a machine: ``2GiB``, not none."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Bytes."""
        count = super().convert(value, param, ctx)
        if count < LEAST_MEMORY_BYTES:
            self.fail(f"{value!r} is too little for a VM", param, ctx)
        return count


class Duration(click.ParamType[float]):
    """A time: ``500ms``, ``2s``, ``1min``."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _TIME.match(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no time; for example 500ms, 2s or 1min", param, ctx)
        return float(match[1]) * _SECONDS[match[2] or "s"]


def paths(count: int) -> str:
    """``1 path``, ``12 paths``."""
    return f"{count} path" if count == 1 else f"{count} paths"


def size(count: float) -> str:
    """``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def seconds(count: float) -> str:
    """``0.24 s``, ``12 s``, ``3 min 10 s``."""
    if count < 10:
        return f"{count:.2f} s"
    whole = round(count)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s"
