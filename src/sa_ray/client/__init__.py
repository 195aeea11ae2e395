"""Clients of the HTTP API."""

from sa_ray.client.sync import Client, ClipWarning
from sa_ray.client.wire import ApiError, Clip

__all__ = ["ApiError", "Client", "Clip", "ClipWarning"]
