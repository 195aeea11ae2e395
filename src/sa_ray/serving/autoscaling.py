"""Published name of the autoscaling policy: ``sa_ray.serving.autoscaling:BacklogPolicy``.

Operators name it in ``serve_config.yaml`` (docs/tuning.md). It is the module of the policy itself
by another name, and no copy: Serve ships the module by value, whichever name it was given.
"""

import sys

from sa_ray.scheduling import autoscaling_policy

sys.modules[__name__] = autoscaling_policy
