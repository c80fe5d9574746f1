"""How disk bytes move: one module a way."""
