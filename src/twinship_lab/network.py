"""The lab's network: a fabric namespace with a bridge, one cable to every host.

Nothing of it is ever in the root namespace, not even for a moment: both ends of
every cable are made where they belong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from twinship_lab.errors import NotReady
from twinship_lab.processes import living_in
from twinship_lab.programs import run

BRIDGE = "br0"
_NAMES = Path("/run/netns")
_RANGE = IPv4Network("198.18.0.0/16")  # for benchmarks of network devices, RFC 2544; routed nowhere
# A tbf bucket must hold the largest packet it is given, here one of 64 KiB before segmentation
# (GSO), and what the rate brings between two timer ticks (4 ms at HZ=250), else it throttles more.
_BUCKET_LEAST_BYTES = 128 * 1024
_BUCKET_S = 0.005
_QUEUE_S = 0.05


def namespace_prefix(identifier: str) -> str:
    """What the names of all namespaces of this lab begin with."""
    return f"twinlab-{identifier}-"


def namespaces(prefix: str) -> tuple[str, ...]:
    """The lab's network namespaces that exist."""
    if not _NAMES.is_dir():
        return ()
    return tuple(sorted(p.name for p in _NAMES.iterdir() if p.name.startswith(prefix)))


def namespace_inode(name: str) -> int | None:
    """The namespace's inode; None when it does not exist."""
    try:
        status = (_NAMES / name).stat()
    except FileNotFoundError:
        return None
    # A name whose mount is gone is an ordinary file, on another filesystem.
    return None if status.st_dev == _NAMES.stat().st_dev else status.st_ino


def namespace_path(name: str) -> Path:
    """The file by which the namespace is entered."""
    return _NAMES / name


def ensure_namespace(name: str) -> None:
    """Make the namespace unless it exists; its loopback is up."""
    if namespace_inode(name) is None:
        if (_NAMES / name).exists():
            run(["ip", "netns", "delete", name])
        run(["ip", "netns", "add", name])
    run(["ip", "-n", name, "link", "set", "lo", "up"])


def ensure_fabric(fabric: str) -> None:
    """The fabric's namespace with its bridge, up."""
    ensure_namespace(fabric)
    if not _has_link(fabric, BRIDGE):
        run(["ip", "-n", fabric, "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "-n", fabric, "link", "set", BRIDGE, "up"])


def ensure_cable(fabric: str, port: str, namespace: str, address: str) -> None:
    """A cable from the bridge's ``port`` to ``eth0`` in ``namespace``, up, with its address."""
    if not (_has_link(fabric, port) and _has_link(namespace, "eth0")):
        peer = ["peer", "name", "eth0", "netns", namespace]
        run(["ip", "link", "add", "name", port, "netns", fabric, "type", "veth", *peer])
    run(["ip", "-n", fabric, "link", "set", port, "master", BRIDGE, "up"])
    run(["ip", "-n", namespace, "address", "replace", f"{address}/24", "dev", "eth0"])
    run(["ip", "-n", namespace, "link", "set", "eth0", "up"])


def set_cable(fabric: str, port: str, *, up: bool) -> None:
    """Cut or mend the cable at the bridge: both directions, nothing is answered."""
    run(["ip", "-n", fabric, "link", "set", port, "up" if up else "down"])


def cable_is_up(fabric: str, port: str) -> bool:
    """Whether the bridge's end of the cable is up."""
    done = run(["ip", "-j", "-n", fabric, "link", "show", "dev", port], check=False)
    return done.returncode == 0 and "UP" in json.loads(done.stdout)[0]["flags"]


def shape(fabric: str, port: str, namespace: str, rate_bytes_s: int | None) -> None:
    """Limit the cable to ``rate_bytes_s`` in each direction; None takes the limit away.

    The rate counts Ethernet frames, as on a real link: TCP delivers about 95 % of it.
    """
    for where, device in ((fabric, port), (namespace, "eth0")):
        if rate_bytes_s is None:
            run(["tc", "-n", where, "qdisc", "delete", "dev", device, "root"], check=False)
            continue
        bucket = max(_BUCKET_LEAST_BYTES, int(rate_bytes_s * _BUCKET_S))
        limit = bucket + max(_BUCKET_LEAST_BYTES, int(rate_bytes_s * _QUEUE_S))
        # In tc's words "bps" is bytes per second (tc(8), UNITS); a bare burst or limit is bytes.
        sizes = ["rate", f"{rate_bytes_s}bps", "burst", str(bucket), "limit", str(limit)]
        run(["tc", "-n", where, "qdisc", "replace", "dev", device, "root", "tbf", *sizes])


def routes_here() -> list[IPv4Network]:
    """Everything this machine has an IPv4 route for, except the default."""
    done = run(["ip", "-j", "-4", "route", "show", "table", "all"])
    destinations = (route["dst"] for route in json.loads(done.stdout or b"[]"))
    return [IPv4Network(dst, strict=False) for dst in destinations if dst != "default"]


def choose_network(taken: Iterable[IPv4Network]) -> str:
    """The first /24 of the benchmark range that touches none of ``taken``."""
    routes = tuple(taken)
    for candidate in _RANGE.subnets(new_prefix=24):
        if not any(candidate.overlaps(route) for route in routes):
            return str(candidate)
    raise NotReady(
        "no address range is free for the lab",
        cause=f"routes of this machine cover all of {_RANGE}",
        hint="remove the route that covers it",
    )


def remove_namespaces(prefix: str) -> None:
    """Remove the lab's namespaces, with the bridge and cables in them; processes must be gone."""
    names = namespaces(prefix)
    for name in names:
        # The kernel takes a namespace apart in the background; links we delete are gone at once.
        for link in _links(name):
            run(["ip", "-n", name, "link", "delete", link], check=False)
        run(["ip", "netns", "delete", name])


def inhabitants(prefix: str) -> list[int]:
    """The pids of all processes that live in the lab's namespaces."""
    inodes = [namespace_inode(name) for name in namespaces(prefix)]
    return [p.pid for p in living_in(inode for inode in inodes if inode is not None)]


def _has_link(namespace: str, device: str) -> bool:
    done = run(["ip", "-n", namespace, "link", "show", "dev", device], check=False)
    return done.returncode == 0


def _links(namespace: str) -> list[str]:
    if namespace_inode(namespace) is None:
        return []
    done = run(["ip", "-j", "-n", namespace, "link", "show"], check=False)
    links = json.loads(done.stdout or b"[]")
    return [link["ifname"] for link in links if link["ifname"] != "lo"]
