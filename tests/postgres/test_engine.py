"""The engine's own tests, the same ones, over PostgreSQL."""

from __future__ import annotations

from tests.unit import test_engine as unit

# The tests alone: their fixtures are this folder's, so that the database is.
globals().update({name: test for name, test in vars(unit).items() if name.startswith("test_")})
