"""Rows for what a machine's past left behind: logs, histories, caches, spools, temporary files."""

from __future__ import annotations

from twinship.guestfs.sealing.operation import EditFiles, Operation, Remove, Truncate, removing

_HOMES = ("/root", "/home/*")
_HISTORIES = (
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".histfile",
    ".ash_history",
    ".sh_history",
    ".local/share/fish/fish_history",
    ".python_history",
    ".mysql_history",
    ".psql_history",
    ".sqlite_history",
    ".rediscli_history",
    ".node_repl_history",
    ".lesshst",
    ".viminfo",
    ".wget-hsts",
)
_LOGS = (
    "*.log",
    "*_log",
    "*.err",
    "*.warn",
    "*.info",
    "messages",
    "secure",
    "syslog",
    "maillog",
    "cron",
    "spooler",
    "debug",
    "dmesg",
    "boot",
    "btmp",
    "wtmp",
    "lastlog",
    "faillog",
    "tallylog",
)
_ALL_LOGS = ("ConsoleKit", "gdm", "puppet", "samba", "sssd")
"""Directories below /var/log where every file is a log, whatever its name."""
_OLD_LOGS = ("*.gz", "*.xz", "*.bz2", "*.zst", "*.old", "*.log.[0-9]*", "*-20[0-9][0-9][01][0-9]*")
_NUMBERED = tuple(f"{name}.[0-9]*" for name in _LOGS if "*" not in name)

ROWS = (
    Operation(
        name="logs",
        title="logs",
        why="they tell of another machine; logs in use are emptied, so that owner, mode and label "
        "stay for the service that writes them, old ones and the journal are removed",
        source="hier(7), journald.conf(5), the installers' own logs",
        acts=(
            Remove(
                (
                    "/var/log/journal/*",
                    *(f"/var/log/**/{name}" for name in (*_OLD_LOGS, *_NUMBERED)),
                    "/var/log/installer/*",
                    "/var/log/anaconda/*",
                    "/var/log/sa/*",
                    "/var/log/sysstat/*",
                    "/root/anaconda-ks.cfg",
                    "/root/initial-setup-ks.cfg",
                    "/root/original-ks.cfg",
                    "/root/anaconda-post.log",
                    "/root/install.log",
                    "/root/install.log.syslog",
                )
            ),
            Truncate(
                (
                    *(f"/var/log/**/{name}" for name in _LOGS),
                    *(f"/var/log/{name}/**/*" for name in _ALL_LOGS),
                )
            ),
        ),
    ),
    Operation(
        name="crash-data",
        title="crash dumps and reports",
        why="memory of another machine, with its secrets",
        source="kdump.conf(5), abrtd(8), coredump.conf(5), apport",
        acts=removing(
            "/var/crash/*",
            "/var/log/dump/*",
            "/var/spool/abrt/*",
            "/var/lib/systemd/coredump/*",
            "/var/lib/kdump/*",
        ),
    ),
    Operation(
        name="accounting",
        title="login records and process accounting",
        why="records of another machine",
        source="utmp(5), accton(8), wtmpdb(8)",
        acts=(
            Truncate(("/var/account/pacct", "/var/log/account/pacct")),
            Remove(("/var/run/utmp", "/var/lib/wtmpdb/*", "/var/lib/lastlog/*")),
        ),
    ),
    Operation(
        name="histories",
        title="histories of shells and clients",
        why="they show what people typed, passwords too",
        source="bash(1), zsh(1), fish(1), python(1), psql(1), mysql(1), less(1), vim(1)",
        acts=removing(*(f"{home}/{name}" for home in _HOMES for name in _HISTORIES)),
    ),
    Operation(
        name="package-caches",
        title="caches of package managers",
        why="room in every clone, and lists that are old when it starts",
        source="apt-get(8) clean, dnf(8) clean, zypper(8) clean, pacman(8), apk(8)",
        acts=(
            Remove(
                (
                    "/var/cache/apt/*.bin",
                    "/var/cache/apt/archives/*",
                    "/var/lib/apt/lists/*",
                ),
                keep=("lock", "partial", "auxfiles"),
            ),
            Remove(
                (
                    "/var/cache/apt/archives/partial/*",
                    "/var/lib/apt/lists/partial/*",
                    "/var/cache/dnf/*",
                    "/var/cache/libdnf5/*",
                    "/var/cache/yum/*",
                    "/var/cache/zypp/*",
                    "/var/cache/pacman/pkg/*",
                    "/var/cache/apk/*",
                    "/var/cache/PackageKit/*",
                )
            ),
        ),
    ),
    Operation(
        name="blkid-tab",
        title="blkid's cache",
        why="it lists another machine's disks",
        source="libblkid(3)",
        acts=removing("/etc/blkid.tab*", "/etc/blkid/*", "/run/blkid/*"),
    ),
    Operation(
        name="backup-files",
        title="editors' backup files",
        why="old passwords and settings live on in them",
        source="the names editors use: *.bak and *~",
        acts=(
            Remove(
                tuple(
                    f"/{place}/**/{name}"
                    for place in ("etc", "root", "srv", "tmp", "var")
                    for name in ("*.bak", "*~")
                ),
                files_only=True,
            ),
        ),
    ),
    Operation(
        name="passwd-backups",
        title="backups of the user database",
        why="old password hashes",
        source="passwd(5), shadow(5): the files ending in a dash",
        acts=removing(
            "/etc/passwd-",
            "/etc/shadow-",
            "/etc/group-",
            "/etc/gshadow-",
            "/etc/subuid-",
            "/etc/subgid-",
        ),
    ),
    Operation(
        name="mail-spool",
        title="mail waiting for users",
        why="it was sent to another machine",
        source="hier(7)",
        acts=(
            Remove(("/var/mail/*", "/var/spool/mail/*"), files_only=True),
            Remove(("/var/spool/mqueue/*", "/var/spool/clientmqueue/*"), files_only=True),
        ),
    ),
    Operation(
        name="cron-spool",
        title="users' cron and at jobs",
        why="what one machine was told to do all its clones would do",
        source="crontab(1), at(1)",
        acts=(
            Remove(
                (
                    "/var/spool/cron/*",
                    "/var/spool/cron/crontabs/*",
                    "/var/spool/cron/tabs/*",
                    "/var/spool/cron/lastrun/*",
                    "/var/spool/cron/atjobs/*",
                    "/var/spool/cron/atspool/*",
                    "/var/spool/at/*",
                    "/var/spool/at/spool/*",
                    "/var/spool/atjobs/*",
                    "/var/spool/atspool/*",
                ),
                keep=(".SEQ", ".lockfile"),
                files_only=True,
            ),
            EditFiles(("/var/spool/cron/atjobs/.SEQ", "/var/spool/at/.SEQ"), lambda _: b"00000\n"),
        ),
    ),
    Operation(
        name="tmp-files",
        title="temporary files",
        why="of no use to a clone",
        source="hier(7)",
        acts=removing("/tmp/*", "/var/tmp/*"),  # noqa: S108 (the guest's, not ours)
    ),
    Operation(
        name="first-boot",
        title="marks that a first boot is over",
        why="the clone's first user should be asked again",
        source="RHEL 8 and 9 on cloning virtual machines; firstboot(8), initial-setup",
        acts=removing(
            "/root/.config/gnome-initial-setup-done",
            "/home/*/.config/gnome-initial-setup-done",
            "/etc/sysconfig/firstboot",
        ),
    ),
)
