"""Object stores. Only ``open_object_store`` picks one."""

from sa_ray.storage.adapters import AdapterFiles, StoredAdapter, open_adapters
from sa_ray.storage.inputs import Inputs
from sa_ray.storage.keys import file_name, object_key
from sa_ray.storage.locations import ObjectStores
from sa_ray.storage.opening import open_object_store
from sa_ray.storage.port import ListedObject, ObjectStore
from sa_ray.storage.removal import Removal
from sa_ray.storage.threads import in_thread
from sa_ray.storage.uploads import Uploads, arrived

__all__ = [
    "AdapterFiles",
    "Inputs",
    "ListedObject",
    "ObjectStore",
    "ObjectStores",
    "Removal",
    "StoredAdapter",
    "Uploads",
    "arrived",
    "file_name",
    "in_thread",
    "object_key",
    "open_adapters",
    "open_object_store",
]
