"""Files, pools and secrets that a move of any tool left behind; rows of the table, pure.

What is not in our journal is not ours to delete: it is named, with the command to type.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from shlex import quote

from twinship.doctor.census import Census
from twinship.doctor.rows import row
from twinship.doctor.stores import Twin, stem
from twinship.model.diagnosis import Ailment

LOOKED = ".twinship-token-"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_OUR_POOL = re.compile(r"twinship-([0-9a-hjkmnp-tv-z]{12})(-from|-to)?")


@row("DISK_LEFT_BEHIND")
def disks_of_what_moved_away(census: Census) -> Iterator[Ailment]:
    """The old disk of a VM that a move of ours took to another host; a note.

    A move never deletes the source's files: they are what to go back to.
    """
    for twin in _copies(census):
        name = _moved(census, twin)
        if name:
            yield Ailment(
                code="",
                message=f"{twin.path} on {twin.host} is the old disk of VM {name}, which moved to "
                f"{twin.other}",
                cure=f"once you are content with it there: {_delete(twin)}",
                object=f"file/{twin.path}",
                host=twin.host,
                facts={"path": twin.path},
                note=True,
            )


@row("COPY_LEFT")
def copies_of_nobody(census: Census) -> Iterator[Ailment]:
    """A file that belongs to no VM of its host, at the path of a disk of a VM on another one.

    `virsh migrate --copy-storage-all` makes such files on the target, and leaves them when it
    fails; after one that succeeded the old disk stays on the source. Nothing but a person knows
    what it was for, and whether the directory is shared in a way that its times do not show.
    """
    for twin in _copies(census):
        if _moved(census, twin):
            continue
        owner = _owner(census, twin)
        yield Ailment(
            code="",
            message=f"{twin.path} on {twin.host} belongs to no VM there; VM {owner} on "
            f"{twin.other} has a disk of that path: left by a move that failed, or "
            "the old disk of one that succeeded",
            cure=f"if twinship host check {twin.host} --with {twin.other} says that the directory "
            f"is not shared, and nobody needs it: {_delete(twin)}",
            object=f"file/{twin.path}",
            host=twin.host,
            facts={"path": twin.path},
        )


@row("POOL_LEFT")
def pools_of_nobody(census: Census) -> Iterator[Ailment]:
    """A pool that an operation of ours opened over a directory for a moment, and did not close.

    To close it changes no file.
    """
    for host, store in census.stores.items():
        for pool in store.pools:
            ours = _OUR_POOL.fullmatch(pool)
            if ours and ours.group(1) not in census.journal.unfinished:
                yield Ailment(
                    code="",
                    message=f"pool {pool} on {host} was left by operation {ours.group(1)}",
                    cure="close it; its files stay",
                    object=f"pool/{pool}",
                    host=host,
                    certain=True,
                    facts={"pool": pool},
                )


@row("TOKEN_LEFT")
def tokens_of_nobody(census: Census) -> Iterator[Ailment]:
    """A small file of ours, made to see whether a directory is shared; it lives for a moment.

    While an operation is under way it may be that one's.
    """
    for host, path, _pool in _files(census):
        if posixpath.basename(path).startswith(LOOKED):
            yield Ailment(
                code="",
                message=f"{path} on {host} was left by a look whether the directory is shared",
                cure="delete it",
                object=f"file/{path}",
                host=host,
                certain=not census.journal.unfinished,
                facts={"path": path},
            )


@row("STATE_LEFT")
def state_of_no_vm(census: Census) -> Iterator[Ailment]:
    """A file or directory of a pool, named by a UUID that no VM of any host has.

    The state of a TPM, firmware variables or a secret's file are named so. Those in directories
    that are no pool cannot be seen from here.
    """
    known = {seen.uuid for seen in census.vms} | _secret_uuids(census)
    for host, path, pool in _files(census):
        if not _UUID.fullmatch(stem(path)) or stem(path) in known or census.unseen:
            continue
        yield Ailment(
            code="",
            message=f"{path} on {host} is named by a UUID that no VM of any host known here has",
            cure=f"if it was a VM's that is gone: virsh vol-delete --pool {quote(pool)} "
            f"{quote(posixpath.basename(path))} on {host}",
            object=f"file/{path}",
            host=host,
            facts={"path": path},
        )


@row("SECRET_LEFT")
def secrets_of_no_disk(census: Census) -> Iterator[Ailment]:
    """A secret for a volume (its passphrase) that is no longer there, and that no VM names."""
    named = {word for seen in census.vms for word in seen.secrets}
    for host, store in census.stores.items():
        paths = {path for seen in census.vms if seen.host == host for path in seen.paths}
        for secret in store.secrets:
            used = named & {secret.uuid, secret.usage}
            if secret.kind != "volume" or used or secret.usage in paths | store.files.keys():
                continue
            yield Ailment(
                code="",
                message=f"secret {secret.uuid} on {host} is for {secret.usage}, which is not there",
                cure=f"if the disk is gone for good: virsh secret-undefine {secret.uuid} on {host}",
                object=f"secret/{secret.uuid}",
                host=host,
                facts={"uuid": secret.uuid},
            )


def _copies(census: Census) -> Iterator[Twin]:
    """Files that are really others, and that nothing stands on, each once."""
    told = set()
    for twin in census.twins:
        if not (twin.same or twin.based_on or (twin.host, twin.path) in told):
            told.add((twin.host, twin.path))
            yield twin


def _owner(census: Census, twin: Twin) -> str:
    return next(
        seen.name for seen in census.vms if seen.host == twin.other and twin.path in seen.paths
    )


def _moved(census: Census, twin: Twin) -> str:
    """The VM's name if the last move we know of brought it from one of the two to the other."""
    for seen in census.vms:
        move = census.journal.moves.get(seen.uuid)
        if move is None or seen.host != twin.other or twin.path not in seen.paths:
            continue
        if (move.source, move.target) == (twin.host, twin.other):
            return seen.name
    return ""


def _delete(twin: Twin) -> str:
    name = quote(posixpath.basename(twin.path))
    return f"virsh vol-delete --pool {quote(twin.pool)} {name} on {twin.host}"


def _files(census: Census) -> Iterator[tuple[str, str, str]]:
    for host, store in census.stores.items():
        used = {path for seen in census.vms if seen.host == host for path in seen.paths}
        for path, pool in store.files.items():
            if path not in used:
                yield host, path, pool


def _secret_uuids(census: Census) -> set[str]:
    return {secret.uuid for store in census.stores.values() for secret in store.secrets}
