"""The steps of a move as its plan shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinship.migrate.checks.case import MigrateCase
from twinship.migrate.spec import files_of
from twinship.model.plan import Step


def steps_of(case: MigrateCase, spec: Mapping[str, Any]) -> tuple[Step, ...]:
    """Every effect in its order, and the bytes that it moves."""
    found = [*_needed_before(spec)]
    found += _live(spec) if case.live else _offline(spec)
    source = spec["source"]
    if spec["stay_defined"] or spec["temporary"]:
        title = f"note on {source} that the VM is away"
        found.append(Step(id="mark", title=title, host=source))
    elif spec["persistent"]:
        found.append(Step(id="undefine", title=f"undefine the VM on {source}", host=source))
    return tuple(found)


def _needed_before(spec: Mapping[str, Any]) -> Iterator[Step]:
    source, target = spec["source"], spec["target"]
    for base in spec["bases"]:
        how = "compare all of" if spec["verify"] else "look at"
        yield Step(
            id=f"base:{base['there']}",
            title=f"{how} {base['there']}, which stays where it is on both hosts",
            host=target,
            bytes=2 * base["length"] if spec["verify"] else 0,
        )
    for secret in spec["secrets"]:
        name = secret_name(secret)
        yield Step(
            id=f"secret:{name}",
            title=f"copy the secret of {secret['what']} from {source}",
            host=target,
        )


def secret_name(secret: Mapping[str, Any]) -> str:
    """What tells one secret of a spec from another."""
    return str(secret["uuid"] or f"{secret['kind']}:{secret['usage']}")


def _live(spec: Mapping[str, Any]) -> Iterator[Step]:
    target = spec["target"]
    for layer in spec["along"]:
        yield _volume(layer, target)
    for layer in spec["along"]:
        yield _carried(layer, spec)
    for disk in spec["disks"]:
        for layer in disk["layers"]:
            yield _volume(layer, target)
    copied = sum(disk["bytes"] for disk in spec["disks"])
    what = "memory and disks" if copied else "memory"
    yield Step(
        id="move",
        title=f"move {what} to {target}",
        host=spec["source"],
        bytes=copied + spec["memory_bytes"],
    )


def _offline(spec: Mapping[str, Any]) -> Iterator[Step]:
    target = spec["target"]
    files = files_of(spec)
    for layer in files:
        yield _volume(layer, target)
    for layer in files:
        yield _carried(layer, spec)
    if spec["nvram"]:
        title = f"copy the firmware variables {spec['nvram']}"
        yield Step(id="nvram", title=title, host=target)
    if spec["tpm"]:
        yield Step(id="tpm", title="copy the TPM's state", host=target)
    reading = sum(layer["length"] for layer in files)
    yield Step(
        id="verify",
        title="compare the content of both ends" if spec["verify"] else "check the copies",
        host=target,
        bytes=2 * reading if spec["verify"] else 0,
    )
    yield Step(id="define", title=f"define the VM on {target}", host=target)
    snapshots, checkpoints = spec["records"]
    for count, what in ((snapshots, "snapshot"), (checkpoints, "checkpoint")):
        if count:
            title = f"keep the records of {count} {what}{'' if count == 1 else 's'}"
            yield Step(id=f"{what}s", title=title, host=target)


def _volume(layer: Mapping[str, Any], target: str) -> Step:
    upon = f", an overlay upon {layer['backing']}" if layer.get("backing") else ""
    return Step(id=f"volume:{layer['there']}", title=f"create {layer['there']}{upon}", host=target)


def _carried(layer: Mapping[str, Any], spec: Mapping[str, Any]) -> Step:
    what = f"the {layer['what']} " if "what" in layer else ""
    at = f", as {layer['there']}" if layer["there"] != layer["path"] else ""
    return Step(
        id=f"carry:{layer['path']}",
        title=f"carry {what}{layer['path']} to {spec['target']}{at}",
        host=spec["source"],
        bytes=layer["bytes"],
    )
