"""The recipes: networks from the literature, one file a family; each is `build_unet` with its own parts and widths.

A recipe's arguments stand in its signature, the same for all, so that `help()` and an editor show them; it hands them
on as they are, as `locals()`, with the parts that make it. Its default arguments give the count of the system that it
follows, to the parameter; where it differs from what is published, its docstring says so.
"""
