"""Object stores. Only ``open_object_store`` picks one."""

from sa_ray.storage.keys import object_key
from sa_ray.storage.opening import open_object_store
from sa_ray.storage.port import ObjectStore
from sa_ray.storage.uploads import Uploads, in_thread

__all__ = ["ObjectStore", "Uploads", "in_thread", "object_key", "open_object_store"]
