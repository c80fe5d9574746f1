"""The only importer of ``libvirt``: connections, facts, volumes, jobs, and what its errors mean.

Every function here may raise :class:`twinship.model.errors.HypervisorError` or one of its
children; nothing else of libvirt leaves this package.
"""
