"""Published names of the autoscaling policies: ``sa_ray.serving.autoscaling:BacklogPolicy`` of
variants, ``sa_ray.serving.autoscaling:CpuPolicy`` of the ingress.

Operators name them in ``serve_config.yaml`` (docs/tuning.md). It is the module of the policies
itself by another name, and no copy: Serve ships the module by value, whichever name it was given.
"""

import sys

from sa_ray.scheduling import autoscaling_policy

sys.modules[__name__] = autoscaling_policy
