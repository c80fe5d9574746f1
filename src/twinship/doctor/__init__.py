"""Finds what is nobody's on all hosts, and mends what is certain."""
