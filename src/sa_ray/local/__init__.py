"""A service of one's own on this machine, on a Ray that nobody else can reach."""

from sa_ray.local.command import serve
from sa_ray.local.configuration import IMPORT_PATH, Configuration
from sa_ray.local.ports import LocalServiceError, free_port, require_free
from sa_ray.local.service import LocalService

__all__ = [
    "IMPORT_PATH",
    "Configuration",
    "LocalService",
    "LocalServiceError",
    "free_port",
    "require_free",
    "serve",
]
