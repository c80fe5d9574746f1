"""The manual's way to move a shut-off VM: ``virsh migrate --offline``, then ``scp`` the disk."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from twinship_lab import LabHost

CONFIG = """\
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile {directory}/pid
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
Subsystem sftp internal-sftp
"""


def scp_way(one: LabHost, two: LabHost, name: str, path: str) -> tuple[float, float]:
    """Seconds for the definition and then the bytes, as root over ssh inside the lab's network.

    The second number counts until the copy is on the disk, as ours is when it says done: before
    that, a power cut loses a VM whose source definition is gone.
    """
    directory = two.outside("/run") / "ssh"
    server = start_sshd(two, directory)
    try:
        began = time.monotonic()
        one.run(
            ["virsh", "migrate", "--offline", "--persistent", "--undefinesource", name, two.tcp_uri]
        )
        options = ["-q", "-i", str(directory / "user_key"), "-o", "StrictHostKeyChecking=no"]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
        one.run(["scp", *options, path, f"root@{two.address}:{path}"], timeout_s=600)
        typed = time.monotonic() - began
        two.run(["sync", "--file-system", path])
        return typed, time.monotonic() - began
    finally:
        server.terminate()
        server.wait()


def start_sshd(host: LabHost, directory: Path) -> subprocess.Popen[bytes]:
    """An ssh server on the host's lab address alone; returns once it listens."""
    if not directory.exists():
        directory.mkdir(mode=0o700)
        for key in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
            subprocess.run(command, check=True)
    config = directory / "config"
    config.write_text(CONFIG.format(address=host.address, directory=directory))
    host.run(["mkdir", "-p", "/run/sshd"])
    server = host.popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)])
    for _ in range(100):
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/{host.address}/22"]
        if host.run(probe, check=False).returncode == 0:
            return server
        time.sleep(0.05)
    raise RuntimeError("sshd does not listen")
