"""Frozen encoders: an item becomes a unit vector. Start at `registry` (names) and `protocol` (what an encoder is)."""
