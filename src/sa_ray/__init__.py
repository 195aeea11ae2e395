"""Stable Audio 3 as a production service on Ray Serve."""

from importlib.metadata import PackageNotFoundError, version


def _version() -> str:
    try:
        return version("sa-ray")
    except PackageNotFoundError:  # the client alone
        return version("sa-ray-client")


__version__ = _version()
