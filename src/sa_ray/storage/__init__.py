"""Object stores. ``open_object_store`` picks one; nothing else does."""

from sa_ray.storage.opening import open_object_store
from sa_ray.storage.port import ObjectStore

__all__ = ["ObjectStore", "open_object_store"]
