"""What Serve's controller passes to an autoscaling policy, as far as Serve or a policy reads it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    value: float


@dataclass
class Context:
    target_num_replicas: int = 1
    current_num_replicas: int = 1
    current_time: float = 0.0
    total_num_requests: float = 0.0
    total_queued_requests: float = 0.0
    raw_metrics: Any = None
    policy_state: dict[str, Any] = field(default_factory=dict)
    config: Any = None
