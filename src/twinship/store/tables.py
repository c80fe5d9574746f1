"""The tables. A change here is a new migration in ``migrations/versions`` and a new ``HEAD``."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

HEAD = "0002"
"""The newest migration, so that an up-to-date database is opened without Alembic."""

metadata = MetaData()

host = Table(
    "host",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("address", String(255), nullable=False),
    Column("site", String(255), nullable=False),
    Column("labels", JSON, nullable=False),
)

operation = Table(
    "operation",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("state", String(32), nullable=False, index=True),
    Column("created", DateTime(timezone=True), nullable=False, index=True),
    Column("started", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Column("user", String(255), nullable=False),
    Column("resources", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("parent", String(32)),
    Column("progress", JSON, nullable=False),
    Column("waiting_for", Text, nullable=False),
    Column("leftovers", JSON, nullable=False),
    Column("result", JSON),
    Column("error", JSON),
    Column("owner", String(255), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_until", Float, nullable=False, server_default="0"),
    Column("cancel_requested", Boolean, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("operation", String(32), ForeignKey("operation.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("phase", String(255), nullable=False),
    Column("data", JSON, nullable=False),
)

claim = Table(
    "claim",
    metadata,
    Column("resource", String(600), primary_key=True),
    Column("operation", String(32), ForeignKey("operation.id"), primary_key=True),
    Column("shared", Boolean, nullable=False),
)
"""One row for each thing an unfinished operation works on; ``shared`` where it only reads it."""

slot = Table(
    "slot",
    metadata,
    Column("operation", String(32), ForeignKey("operation.id"), primary_key=True),
    Column("resource", String(600), primary_key=True, index=True),
)
"""One row for each slot an unfinished operation needs while it works (``in/kvm02``)."""
