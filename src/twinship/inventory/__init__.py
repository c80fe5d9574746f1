"""Hosts known to us and their VMs: read in parallel, a dead host bounded and named."""
