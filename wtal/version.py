"""The version of the installed package."""

from importlib import metadata


def installed_version() -> str:
    """Return the version of the installed package; `0+unknown` for source that is not installed."""
    try:
        return metadata.version("wtal")
    except metadata.PackageNotFoundError:
        return "0+unknown"
