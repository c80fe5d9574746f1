"""Sealing a VM in place: what makes its guest itself goes from its disks, and can be undone."""
