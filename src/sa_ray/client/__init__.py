"""Clients of the HTTP API."""

from sa_ray.client.aio import AsyncClient
from sa_ray.client.batches import BatchResult
from sa_ray.client.events import JobEvent
from sa_ray.client.sync import Client
from sa_ray.client.wire import ApiError, Clip, ClipWarning

__all__ = ["ApiError", "AsyncClient", "BatchResult", "Client", "Clip", "ClipWarning", "JobEvent"]
