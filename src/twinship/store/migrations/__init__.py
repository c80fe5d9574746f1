"""Alembic migrations, applied when a database is opened that is not at the newest one."""
