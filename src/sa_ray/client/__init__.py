"""Clients of the HTTP API."""

from sa_ray.client.sync import Client, ClipWarning
from sa_ray.client.wire import ApiError

__all__ = ["ApiError", "Client", "ClipWarning"]
