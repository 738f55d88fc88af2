"""Everything that touches LanceDB or the disk."""
