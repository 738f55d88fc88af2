"""Finding pairs by similarity search."""
