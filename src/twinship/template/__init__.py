"""Templates: a sealed copy of a VM that is never started, from which VMs are made."""
