"""One file a format, and `registry.py`, which lists them."""
