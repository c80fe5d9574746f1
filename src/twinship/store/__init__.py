"""Tables and every query on them, behind small repositories. Intent only: libvirt is the truth."""
