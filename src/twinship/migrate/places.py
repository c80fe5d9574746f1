"""Where the files of a VM lie on the target: in a directory of the same path, or in another; pure.

``--map`` names it. With ``--fix`` what lies in a directory that is no active pool of the target
goes to the one pool for files that it has, if it has just one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from twinship.domxml.refit import Refit, Rewrite
from twinship.model.host import HostFacts, Pool
from twinship.model.request import MigrateRequest
from twinship.model.vm import Layer, VmFacts

OF_FILES = ("dir", "fs", "netfs")
"""The types of pools in which a file has the name it is given."""


@dataclass(frozen=True, slots=True)
class Places:
    """Directories of the source that are another on the target; any other is of the same path."""

    moved: tuple[tuple[str, str], ...] = ()

    def there(self, path: str) -> str:
        """The path on the target of a file of the source."""
        directory, file = posixpath.split(path)
        new = dict(self.moved).get(directory)
        return path if new is None else posixpath.join(new, file)

    def still_names(self, layer: Layer) -> bool:
        """Whether the header of a file, as it is, names its backing file on the target as well.

        A relative name does if both go the same way, an absolute one if its file stays there.
        """
        backing = layer.header.backing_path if layer.header is not None else ""
        if not backing:
            return True
        return _followed(self.there(layer.path), backing) == self.there(
            _followed(layer.path, backing)
        )


def places(
    target: HostFacts, vm: VmFacts, others: Iterable[Layer], request: MigrateRequest
) -> Places:
    """What the request makes of the directories; ``others``: files that are on no disk's chain."""
    moved = mapped(request)
    only = only_pool(target)
    if not request.fix or only is None:
        return Places(tuple(moved.items()))
    files = (layer for disk in vm.disks if disk.source_type == "file" for layer in disk.chain)
    for layer in (*files, *others):
        directory = posixpath.dirname(layer.path)
        if layer.block or layer.problem or not layer.pool or directory in moved:
            continue
        pool = target.pool_at(directory)
        if pool is None or not pool.active:
            moved[directory] = _plain(only.path)
    return Places(tuple(moved.items()))


def mapped(request: MigrateRequest) -> dict[str, str]:
    """The directories that the request itself maps."""
    return {_plain(old): _plain(new) for old, new in request.maps if old.startswith("/")}


def only_pool(target: HostFacts) -> Pool | None:
    """The one active pool for files of the target; None where it has several, or none."""
    found = file_pools(target)
    return found[0] if len(found) == 1 else None


def file_pools(target: HostFacts) -> tuple[Pool, ...]:
    """The active pools for files of a host."""
    return tuple(
        pool for pool in target.pools if pool.active and pool.path and pool.type in OF_FILES
    )


def places_of(rewrites: Iterable[Rewrite]) -> Places:
    """The places that a spec has, by what it changes in the definition."""
    return Places(
        tuple((rewrite.old, rewrite.new) for rewrite in rewrites if rewrite.kind is Refit.DIRECTORY)
    )


def _plain(directory: str) -> str:
    return posixpath.normpath("/" + directory.lstrip("/"))


def _followed(path: str, backing: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), backing))
