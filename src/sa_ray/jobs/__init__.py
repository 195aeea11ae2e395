"""Jobs: their life cycle, the stores that keep them, and the coordinator that hands them out."""

from sa_ray.jobs.changes import JobChange
from sa_ray.jobs.coordinator import JobCoordinator, LeaseReport, LeaseVerdict
from sa_ray.jobs.ledger import JobSnapshot
from sa_ray.jobs.lifecycle import JobOptions
from sa_ray.jobs.opening import open_job_store
from sa_ray.jobs.port import Cursor, JobStore, QueueCounts

__all__ = [
    "Cursor",
    "JobChange",
    "JobCoordinator",
    "JobOptions",
    "JobSnapshot",
    "JobStore",
    "LeaseReport",
    "LeaseVerdict",
    "QueueCounts",
    "open_job_store",
]
