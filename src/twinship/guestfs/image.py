"""The disk images a guest's files lie in, as the caller knows them; and what is refused of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinship.guestfs.files import GuestFilesError
from twinship.model.image import HEADER_BYTES, BadImage, read_header
from twinship.model.vm import ImageHeader

FORMATS = ("raw", "qcow2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file of a chain. ``format`` is what libvirt says, never guessed from the content.

    ``socket``: it is not here, but shown there (:mod:`twinship.guestfs.window`); ``head`` are then
    its first bytes, ``length_bytes`` its length.
    """

    path: Path
    format: str
    socket: Path | None = None
    head: bytes = b""
    length_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A disk: its own file first, then the files below it, each the backing of the one before.

    The list is whole: a header that names a file when none is listed is refused, as is one that
    names none when one is listed. What a header names is itself never opened. ``alone``: only what
    the file itself holds is wanted, whatever its header says of others.
    """

    layers: tuple[Layer, ...]
    alone: bool = False

    @property
    def top(self) -> Layer:
        """The file that is written."""
        return self.layers[0]


def an_image(path: Path | str, format: str, *backing: tuple[Path | str, str]) -> Image:
    """An image by its path and format and, in order, those of the files below it."""
    return Image(
        layers=tuple(
            Layer(path=Path(name), format=kind) for name, kind in ((path, format), *backing)
        )
    )


def verify(image: Image) -> None:
    """Raises ``IMAGE_REFUSED`` unless each file's header fits what the caller said of it."""
    for depth, layer in enumerate(image.layers):
        last = depth == len(image.layers) - 1
        if layer.format not in FORMATS:
            raise _refused(layer, f"its format is {layer.format}", "convert it to qcow2 or raw")
        if layer.format == "raw":
            if not last:
                raise _refused(layer, "a raw file cannot have a backing file")
            continue
        try:
            header = _header(layer)
        except (OSError, BadImage) as error:
            raise _refused(layer, str(error)) from None
        if header.format != "qcow2":
            raise _refused(layer, f"it is {header.format}, not qcow2")
        if header.data_file:
            raise _refused(layer, "its data lie in another file, which its header names")
        if header.encrypted:
            raise _refused(layer, "it is encrypted")
        if header.dirty:
            raise _refused(layer, "its header says that it is damaged", "qemu-img check -r all")
        if bool(header.backing_path) == last and not image.alone:
            named = header.backing_path or "none"
            raise _refused(layer, f"its header names as backing file: {named}")


def block_nodes(image: Image, name: str, *, writable: bool) -> list[dict[str, Any]]:
    """QEMU's block nodes for the image, the lowest first; the last one is called ``name``.

    Each driver is named and every backing file given, so that QEMU neither probes a format nor
    follows what a header says. The files below the top are opened for reading only.
    """
    nodes: list[dict[str, Any]] = []
    below: str | None = None
    for depth in reversed(range(len(image.layers))):
        layer = image.layers[depth]
        node = name if depth == 0 else f"{name}-below-{depth}"
        read_only = depth > 0 or not writable
        file = {
            **_where(layer),
            "node-name": f"{node}-file",
            "read-only": read_only,
            "discard": "unmap",
        }
        node_of_format: dict[str, Any] = {
            "driver": layer.format,
            "node-name": node,
            "file": f"{node}-file",
            "read-only": read_only,
            "discard": "unmap",
        }
        if layer.format == "qcow2":
            node_of_format["backing"] = below
        nodes += [file, node_of_format]
        below = node
    return nodes


def _header(layer: Layer) -> ImageHeader:
    if layer.socket is not None:
        return read_header(layer.head, layer.length_bytes)
    with layer.path.open("rb") as file:
        return read_header(file.read(HEADER_BYTES), layer.path.stat().st_size)


def _where(layer: Layer) -> dict[str, Any]:
    if layer.socket is not None:
        server = {"type": "unix", "path": str(layer.socket)}
        return {"driver": "nbd", "server": server, "export": str(layer.path)}
    driver = "host_device" if layer.path.is_block_device() else "file"
    return {"driver": driver, "filename": str(layer.path)}


def _refused(layer: Layer, cause: str, hint: str = "") -> GuestFilesError:
    return GuestFilesError(
        f"{layer.path} is not opened", code="IMAGE_REFUSED", cause=cause, hint=hint
    )


def named(images: Sequence[Image]) -> str:
    """The images for a sentence."""
    return ", ".join(str(image.top.path) for image in images)
