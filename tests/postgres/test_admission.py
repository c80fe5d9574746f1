"""Leases, slots and take-overs, the same tests, over PostgreSQL."""

from __future__ import annotations

from tests.unit import test_admission as unit

# The tests alone: their fixtures are this folder's, so that the database is.
globals().update({name: test for name, test in vars(unit).items() if name.startswith("test_")})
