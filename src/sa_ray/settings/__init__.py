"""Settings, in groups; ``load_settings`` reads them once, when the application is built."""

from sa_ray.settings.access import AccessSettings
from sa_ray.settings.credentials import CredentialSettings
from sa_ray.settings.edge import EdgeSettings
from sa_ray.settings.jobs import JobSettings, WebhookSettings
from sa_ray.settings.limits import LimitSettings
from sa_ray.settings.models import Autoscaling, ModelSettings, WeightSettings
from sa_ray.settings.reading import Settings, duration_limit, load_settings, refuse_secrets
from sa_ray.settings.storage import StorageSettings

__all__ = [
    "AccessSettings",
    "Autoscaling",
    "CredentialSettings",
    "EdgeSettings",
    "JobSettings",
    "LimitSettings",
    "ModelSettings",
    "Settings",
    "StorageSettings",
    "WebhookSettings",
    "WeightSettings",
    "duration_limit",
    "load_settings",
    "refuse_secrets",
]
