"""Captions by retrieval: tokens, CIDEr and consensus; and a reader, any local model that writes from evidence."""
