"""libvirt domain XML in, XML out: reading, the identity table, rewriting. Pure."""
