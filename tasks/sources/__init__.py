"""Readers of the user's data: folders, tables and the packaged demo → rows → records."""
