"""The engine: every change is an operation of journaled phases that can be cancelled and undone."""
