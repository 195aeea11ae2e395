"""A service of one's own on this machine, on a Ray that nobody else can reach."""

from sa_ray.local.configuration import IMPORT_PATH, find_config, hold, render_config
from sa_ray.local.private_ray import run_command, server_environment
from sa_ray.local.service import LocalService, LocalServiceError, free_port, require_free

__all__ = [
    "IMPORT_PATH",
    "LocalService",
    "LocalServiceError",
    "find_config",
    "free_port",
    "hold",
    "render_config",
    "require_free",
    "run_command",
    "server_environment",
]
