"""Published import path of the autoscaling policy, ``sa_ray.serving.autoscaling:BacklogPolicy``.

Operators name it in ``serve_config.yaml`` (docs/tuning.md).
"""

from sa_ray.scheduling.autoscaling_policy import BacklogPolicy

__all__ = ["BacklogPolicy"]
