"""Does what a VM has besides its disks go along: media, secrets, a TPM, records of snapshots?"""

from __future__ import annotations

from collections.abc import Iterator

from twinship.domxml.refit import Refit
from twinship.migrate.belongings import carried_medium, snapshot_file_goes
from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.facts import SecretFacts, SecretThere
from twinship.model.plan import Cure, Severity
from twinship.planning.checks import CheckTable, Problem

ROWS: CheckTable[MigrateCase] = CheckTable()


@ROWS.row("MEDIUM_MISSING")
def media_are_there(case: MigrateCase) -> Iterator[Problem]:
    """QEMU does not start on the target without a CD-ROM's file.

    It goes along, if it lies in a pool and the target has one over the directory it will lie in.
    """
    for disk, _ in case.ways:
        if not disk.readonly or case.facts.media.get(disk.path, True):
            continue
        if carried_medium(case.facts, disk):
            continue
        yield Problem(
            f"{case.facts.there(disk.path)} ({disk.device} {disk.target}) is not seen on "
            f"{case.facts.target.name}",
            hint="eject it (virsh change-media --eject), copy it there, or make its directory a "
            "storage pool on both hosts: then it goes along",
            object=f"{case.vm_object}/disk/{disk.target}",
            severity=None if case.live else Severity.WARN,
            cure=Cure(f"{disk.target} is empty there", Refit.EJECT.value, disk.target, ""),
        )


@ROWS.row("FLOPPY_WRITABLE")
def floppies_are_read_only(case: MigrateCase) -> Iterator[Problem]:
    """A floppy that the guest can write is a disk to libvirt, which is not copied."""
    for disk in case.facts.vm.disks:
        if disk.device != "floppy" or disk.readonly or disk.empty:
            continue
        cure = Cure(f"{disk.target} is empty there", Refit.EJECT.value, disk.target, "")
        yield Problem(
            f"the floppy {disk.path} ({disk.target}) does not go along",
            hint=f"eject it first: virsh change-media {case.facts.vm.vm.name} {disk.target} "
            "--eject",
            object=f"{case.vm_object}/disk/{disk.target}",
            severity=None if case.live else Severity.WARN,
            cure=None if case.live else cure,
        )


@ROWS.row("SECRET_MISSING")
def secrets_are_there(case: MigrateCase) -> Iterator[Problem]:
    """The target needs every secret that the VM names, with its value.

    One that libvirt tells us goes along. Of a private one it tells nobody the value
    (virSecretGetValue): that has to be typed.
    """
    for secret in case.facts.storage.secrets:
        if secret.there not in (SecretThere.MISSING, SecretThere.EMPTY):
            continue
        if secret.here is SecretThere.READABLE:
            continue
        yield Problem(
            f"{secret.what} needs the secret {secret.spoken}, which {case.facts.target.name} "
            f"{_lack(secret)} and which cannot go along: "
            f"on {case.facts.source.name} {_why(secret)}",
            hint=_cure(secret, case.facts.source.name),
            object=f"{case.vm_object}/secret/{secret.uuid or secret.usage}",
            # A VM that could not be started here either is not worse off there.
            severity=None if case.live or secret.here is not SecretThere.MISSING else Severity.WARN,
        )


@ROWS.row("SECRET_DIFFERS")
def secrets_are_equal(case: MigrateCase) -> Iterator[Problem]:
    """A secret of the same name with another value does not open what the source's opens."""
    for secret in case.facts.storage.secrets:
        if secret.differs:
            yield Problem(
                f"the secret {secret.spoken} of {secret.what} has another value on "
                f"{case.facts.target.name}",
                hint="find out which is right; there: virsh secret-set-value UUID --file FILE",
                object=f"{case.vm_object}/secret/{secret.uuid or secret.usage}",
            )


@ROWS.row("SECRET_UNSEEN", Severity.UNKNOWN)
def secrets_can_be_compared(case: MigrateCase) -> Iterator[Problem]:
    """Whether a private secret has the same value on both hosts, nobody can ask."""
    for secret in case.facts.storage.secrets:
        there = secret.there in (SecretThere.PRIVATE, SecretThere.READABLE)
        if there and SecretThere.PRIVATE in (secret.here, secret.there):
            yield Problem(
                f"the secret {secret.spoken} of {secret.what} is on both hosts; whether its value "
                "is the same cannot be seen",
                object=f"{case.vm_object}/secret/{secret.uuid or secret.usage}",
            )


@ROWS.row("SNAPSHOT_FILES")
def snapshots_are_whole(case: MigrateCase) -> Iterator[Problem]:
    """What a snapshot speaks of goes along: disks of another branch, saved memories.

    A file that has gone from the source is as missing afterwards as before. One that lies in no
    storage pool cannot be reached.
    """
    for layer in case.facts.storage.records.files if not case.live else ():
        if snapshot_file_goes(layer):
            continue
        gone = layer.problem_code in ("DISK_MISSING", "BACKING_MISSING")
        yield Problem(
            f"a snapshot speaks of {layer.path}: {layer.problem}",
            hint="the snapshot cannot be gone back to; virsh snapshot-delete --metadata forgets it"
            if gone
            else "make its directory a storage pool on both hosts, or forget the snapshot: "
            "virsh snapshot-delete --metadata",
            object=case.vm_object,
            severity=Severity.WARN if gone else None,
        )


def _lack(secret: SecretFacts) -> str:
    return "lacks" if secret.there is SecretThere.MISSING else "has without a value"


def _why(secret: SecretFacts) -> str:
    return {
        SecretThere.PRIVATE: "it is private",
        SecretThere.EMPTY: "it has no value",
    }.get(secret.here, "it is missing as well")


def _cure(secret: SecretFacts, source: str) -> str:
    name = secret.uuid or "UUID"
    if secret.there is SecretThere.MISSING and secret.here is not SecretThere.MISSING:
        return (
            f"virsh secret-dumpxml {name} on {source}, then on the target virsh secret-define FILE "
            f"and virsh secret-set-value {name} --file VALUE"
        )
    return f"on the target: virsh secret-define FILE, virsh secret-set-value {name} --file VALUE"
