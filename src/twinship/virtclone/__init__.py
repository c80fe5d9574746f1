"""``twinship-virt-clone``: takes virt-clone's options and clones with Twinship."""
