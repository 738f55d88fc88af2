"""Settings (where and how) and params (what)."""
