"""Stable Audio 3 as a production service on Ray Serve."""

from importlib.metadata import version

__version__ = version("sa-ray")
