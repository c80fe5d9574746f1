"""Starting, stopping and deleting a VM: small operations of one or two phases."""
