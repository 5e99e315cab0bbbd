"""Which version this is, the one place that says so; and those of other packages."""

__version__ = "0.1.0"


def installed_version(name: str) -> str | None:
    """Give the version of a distribution.

    Args:
        name: As pip knows it.

    Returns:
        Its version, or None where it is not installed.

    Example:
        >>> installed_version("no-such-distribution") is None
        True
    """
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
