"""The files of a disk, from the one the VM writes to down to its base."""

from __future__ import annotations

import posixpath

from twinship.hypervisor.connection import Connection
from twinship.hypervisor.volumes import find, pool_of, read
from twinship.model.image import HEADER_BYTES, BadImage, read_header
from twinship.model.vm import Layer

MAX_CHAIN = 64
"""Longer backing chains are refused: libvirt and QEMU recurse over them."""


def chain(connection: Connection, path: str, declared_format: str) -> tuple[Layer, ...]:
    """The files of a disk from top to base, as far as they can be seen without trusting them.

    Only files that lie in an active pool of the host are opened, and only as the format that the
    domain XML, or the header above, declares; a layer that cannot be followed says so in
    ``problem`` and ends the chain.
    """
    layers: list[Layer] = []
    seen: set[str] = set()
    kind = declared_format or "raw"
    while path:
        if path in seen or len(layers) >= MAX_CHAIN:
            problem = "its backing chain runs in a circle or is too long"
            layers.append(Layer(path=path, problem=problem, problem_code="BACKING_LOOP"))
            break
        seen.add(path)
        layer = _layer(connection, path, kind, is_top=not layers)
        layers.append(layer)
        header = layer.header
        if layer.problem or header is None or not header.backing_path:
            break
        kind = header.backing_format
        path = _resolve(path, header.backing_path)
        if not path:
            layers[-1] = _flawed(
                layer, "BACKING_NOT_A_FILE", f"its backing file is {header.backing_path!r}"
            )
            break
        if kind not in ("raw", "qcow2"):
            layers[-1] = _flawed(
                layer,
                "BACKING_FORMAT",
                f"its header does not name its backing file's format ({kind or 'none'})",
            )
            break
    return tuple(layers)


def _layer(connection: Connection, path: str, kind: str, *, is_top: bool) -> Layer:
    volume = find(connection, path)
    if volume is None:
        inside = pool_of(connection, posixpath.dirname(path)) is not None
        if inside:
            code = "DISK_MISSING" if is_top else "BACKING_MISSING"
            return Layer(path=path, problem=f"{path} does not exist", problem_code=code)
        code = "DISK_NOT_IN_POOL" if is_top else "BACKING_OUTSIDE_POOLS"
        return Layer(path=path, problem=f"{path} lies in no active storage pool", problem_code=code)
    plain = Layer(
        path=path,
        pool=volume.pool,
        length_bytes=volume.length_bytes,
        allocated_bytes=volume.allocated_bytes,
    )
    if kind == "raw":
        header = read_header(b"", volume.length_bytes)
    else:
        try:
            head = read(connection, path, 0, min(HEADER_BYTES, volume.length_bytes))
            header = read_header(head, volume.length_bytes)
        except BadImage as error:
            return _flawed(plain, "BAD_IMAGE", str(error))
        if header.format != kind:
            return _flawed(plain, "BAD_IMAGE", f"it is {header.format}, not {kind} as declared")
    return Layer(
        path=path,
        pool=volume.pool,
        length_bytes=volume.length_bytes,
        allocated_bytes=volume.allocated_bytes,
        header=header,
        problem="its data lies in another file" if header.data_file else "",
        problem_code="DATA_FILE" if header.data_file else "",
    )


def _flawed(layer: Layer, code: str, why: str) -> Layer:
    return Layer(
        path=layer.path,
        pool=layer.pool,
        length_bytes=layer.length_bytes,
        allocated_bytes=layer.allocated_bytes,
        header=layer.header,
        problem=f"{layer.path}: {why}",
        problem_code=code,
    )


def _resolve(path: str, backing: str) -> str:
    """The backing file's path; empty when it is not a plain file name."""
    if (
        backing.startswith("json:")
        or "://" in backing
        or backing.partition(":")[0] in ("nbd", "rbd")
    ):
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), backing))
