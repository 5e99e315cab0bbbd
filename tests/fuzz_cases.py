"""Damaged files on which a reader failed once: name of the target and seed, as tests/fuzz.py makes them."""

CASES = []
