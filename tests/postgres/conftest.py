"""A real PostgreSQL of the tests' own: it listens on a socket in its directory and nowhere else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.fakes import FakeProcesses
from tests.unit.test_engine import Desk
from twinship.store.database import Database
from twinship.store.tables import metadata

BINARIES = Path("/usr/lib/postgresql")


def _program(name: str) -> str:
    found = sorted(BINARIES.glob(f"*/bin/{name}")) or [Path(shutil.which(name) or "")]
    assert found[-1].is_file(), f"{name} is missing: script/bootstrap installs it"
    return str(found[-1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The server's URL. It refuses to run as root, so it runs as ``postgres``, or as we are."""
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(prefix="tpg", dir="/var/tmp") as directory:
        data = Path(directory) / "data"
        os.chown(directory, user.pw_uid, user.pw_gid)

        def run(*command: str) -> None:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                cwd=directory,
                timeout=60,
            )

        run(_program("initdb"), "-D", str(data), "-A", "trust", "-U", "twinship", "--no-sync")
        options = f"-k {directory} -c listen_addresses= -c fsync=off"
        log = str(Path(directory) / "log")
        control = [_program("pg_ctl"), "-D", str(data)]
        run(*control, "-w", "-l", log, "-o", options, "start")
        try:
            yield f"postgresql+psycopg://twinship@/postgres?host={directory}"
        finally:
            run(*control, "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def shared(postgres_url: str) -> Iterator[Database]:
    """A database at the newest migration."""
    opened = Database.at(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def database(shared: Database) -> Database:
    """The same, empty: in the place of the SQLite file the unit tests have."""
    with shared.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    return shared


@pytest.fixture
def processes() -> FakeProcesses:
    """As in the unit tests."""
    return FakeProcesses()


@pytest.fixture
def desk(database: Database, processes: FakeProcesses) -> Iterator[Desk]:
    """One engine with its fakes, over PostgreSQL."""
    made = Desk(database, processes)
    yield made
    made.tidy()
