"""A server of the Model Context Protocol: assistants make, edit and list sounds with a service.

Needs the extra ``mcp``.
"""

from sa_ray.mcp.folder import Folder
from sa_ray.mcp.server import build_server

__all__ = ["Folder", "build_server"]
