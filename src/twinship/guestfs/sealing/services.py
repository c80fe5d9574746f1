"""Rows for services that know a machine by an id of their own: subscriptions, agents, clusters."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.guestfs.files import READ_LIMIT_BYTES, FileKind, GuestFiles
from twinship.guestfs.inspect import Guest
from twinship.guestfs.sealing.edits import without_json_keys, without_shell_keys
from twinship.guestfs.sealing.operation import (
    Act,
    EditFiles,
    Operation,
    Remove,
    Say,
    removing,
)

_MONITORING = (
    "/var/lib/*beat/meta.json",
    "/var/lib/netdata/registry/netdata.public.unique.id",
    "/var/lib/netdata/cloud.d/*",
    "/var/lib/cmk-agent/registered_connections.json",
    "/etc/zabbix/*.psk",
    "/etc/qualys/hostid",
    "/var/ossec/etc/client.keys",
    "/var/osquery/osquery.db",
)
_SNAPD_STATE = "/var/lib/snapd/state.json"
_SNAPD_KEYS = (
    "/var/lib/snapd/device/private-keys-v1/*",
    "/var/lib/snapd/assertions/asserts-v0/serial/*",
)
_SNAPD_DEVICE = ("serial", "key-id", "session-macaroon")


def _snapd(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    found = files.lstat(_SNAPD_STATE)
    if found is None or found.kind is not FileKind.FILE:
        return
    if found.bytes > READ_LIMIT_BYTES:
        yield Say(f"snapd's serial stays: {_SNAPD_STATE} has {found.bytes} bytes, too many")
        return
    yield EditFiles((_SNAPD_STATE,), without_json_keys(("data", "auth", "device"), _SNAPD_DEVICE))
    yield Remove(_SNAPD_KEYS)


ROWS = (
    Operation(
        name="rh-subscription",
        title="Red Hat subscription",
        why="two systems of one consumer identity overwrite each other's entitlements; the "
        "subscription itself is not given back (subscription-manager clean)",
        source="subscription-manager(8); RHEL 7 to 9 on cloning virtual machines",
        acts=removing(
            "/etc/pki/consumer/*",
            "/etc/pki/entitlement/*",
            "/var/lib/rhsm/cache/*",
            "/var/lib/rhsm/facts/*",
            "/etc/insights-client/machine-id",
            "/etc/insights-client/.registered",
            "/etc/insights-client/.unregistered",
            "/etc/insights-client/.lastupload",
        ),
    ),
    Operation(
        name="rhn-systemid",
        title="registration with RHN, Satellite 5 or Spacewalk",
        why="the id names one system",
        source="RHEL 7 on cloning virtual machines",
        acts=removing("/etc/sysconfig/rhn/systemid", "/etc/sysconfig/rhn/osad-auth.conf"),
    ),
    Operation(
        name="vendor-registration",
        title="registration with SUSE or Ubuntu",
        why="credentials and tokens of one machine",
        source="SUSEConnect(8), ubuntu-advantage(1), landscape-config(1)",
        acts=removing(
            "/etc/zypp/credentials.d/SCCcredentials",
            "/etc/zypp/credentials.d/NCCcredentials",
            "/var/lib/ubuntu-advantage/private/*",
            "/var/lib/ubuntu-advantage/machine-access-*.json",
            "/var/lib/landscape/client/*.bpickle*",
            "/etc/landscape/*.pem",
        ),
    ),
    Operation(
        name="snapd",
        title="snapd's serial and device key",
        why="the store takes two machines of one serial for one; snapd asks for a new one",
        source="snapd's state.json: the device's serial, key-id and session",
        decide=_snapd,
        looks_at=(_SNAPD_STATE, *_SNAPD_KEYS),
    ),
    Operation(
        name="containers",
        title="ids of container engines",
        why="an engine tells its peers who it is by them; images and containers stay",
        source="dockerd(8): engine id and trust key",
        acts=removing("/etc/docker/key.json", "/var/lib/docker/engine-id"),
    ),
    Operation(
        name="kubernetes",
        title="identity of a Kubernetes node",
        why="two nodes with one certificate and name take each other's pods; the clone has to "
        "join anew",
        source="kubelet's certificate rotation; kubeadm join; k3s agent",
        acts=removing(
            "/etc/kubernetes/kubelet.conf",
            "/etc/kubernetes/bootstrap-kubelet.conf",
            "/var/lib/kubelet/pki/*",
            "/etc/rancher/node/password",
        ),
    ),
    Operation(
        name="configuration-agents",
        title="identities of configuration management",
        why="a server takes all clones for one node",
        source="each agent's documentation: salt-minion, puppet, chef-client, rudder",
        acts=removing(
            "/etc/salt/minion_id",
            "/etc/salt/pki/minion/minion.pem",
            "/etc/salt/pki/minion/minion.pub",
            "/var/lib/puppet/*/*",
            "/etc/puppet/ssl/*",
            "/etc/puppetlabs/puppet/ssl/*",
            "/etc/chef/client.pem",
            "/opt/rudder/etc/uuid.hive",
        ),
    ),
    Operation(
        name="monitoring-agents",
        title="ids of monitoring and security agents",
        why="a server takes all clones for one host",
        source="each agent's documentation",
        acts=(
            EditFiles(
                ("/etc/zabbix/zabbix_agent*.conf", "/etc/zabbix/zabbix_agent*.d/*.conf"),
                without_shell_keys("Hostname"),  # then it takes the system's own
            ),
            Remove(_MONITORING),
        ),
    ),
    Operation(
        name="overlay-networks",
        title="nodes of overlay networks and service meshes",
        why="two nodes with one key cannot both be reached",
        source="tailscaled(8), zerotier-one(8), consul agent, teleport",
        acts=removing(
            "/var/lib/tailscale/tailscaled.state",
            "/var/lib/zerotier-one/identity.*",
            "/var/lib/consul/node-id",
            "/opt/consul/node-id",
            "/var/lib/teleport/host_uuid",
        ),
    ),
    Operation(
        name="cockpit",
        title="certificates Cockpit made for itself",
        why="every clone would have the same private key",
        source="cockpit-certificate-ensure(8): it makes them again",
        acts=removing("/etc/cockpit/ws-certs.d/0-self-signed*"),
    ),
    Operation(
        name="dovecot",
        title="Dovecot's state",
        why="certificates and parameters made for one server",
        source="doveconf(1): state_dir",
        acts=removing("/var/lib/dovecot/*"),
    ),
    Operation(
        name="rpm-db",
        title="RPM's lock and region files",
        why="they are of no use on another machine and are made again",
        source="rpm(8): the host specific __db files",
        acts=removing("/var/lib/rpm/__db.*"),
    ),
    Operation(
        name="pam",
        title="login counters",
        why="failed logins of another machine would lock users out",
        source="pam_faillock(8), pam_console(8), pam_sepermit(8)",
        acts=(
            Remove(
                (
                    "/var/run/console/*",
                    "/var/run/faillock/*",
                    "/var/run/sepermit/*",
                    "/var/lib/faillock/*",
                    "/var/lib/pam_tally/*",
                )
            ),
        ),
    ),
)
