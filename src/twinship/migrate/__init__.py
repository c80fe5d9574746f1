"""Moving: ``gather`` reads, ``checks`` and ``plan`` think, ``run`` acts, ``reconcile`` decides."""
