"""The vocabulary: frozen dataclasses without I/O. Sizes are bytes, times seconds, rates bytes/s."""
