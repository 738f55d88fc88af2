"""Exact retrieval maths: the oracle for every approximate answer."""
