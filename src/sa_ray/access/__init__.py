"""Keys: who may use the service, and how much of it."""

from sa_ray.access.allowances import Allowance, RequestAllowances
from sa_ray.access.file_changes import add_key, revoke_key
from sa_ray.access.keyring import Keyring
from sa_ray.access.keys_file import Key, new_secret, read_keys
from sa_ray.access.request_counts import CountsApi, RequestCounts, Taken

__all__ = [
    "Allowance",
    "CountsApi",
    "Key",
    "Keyring",
    "RequestAllowances",
    "RequestCounts",
    "Taken",
    "add_key",
    "new_secret",
    "read_keys",
    "revoke_key",
]
