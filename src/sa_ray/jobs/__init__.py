"""Jobs: their API and life cycle, the stores that keep them, the coordinator, the webhooks."""

from sa_ray.jobs.api import (
    ChangedJobs,
    Cursor,
    Deferral,
    JobApi,
    JobOptions,
    JobSnapshot,
    LeaseReport,
    LeaseVerdict,
    QueueCounts,
    Submission,
)
from sa_ray.jobs.changes import JobChange, change_of
from sa_ray.jobs.coordinator import JobCoordinator
from sa_ray.jobs.stores.opening import check_job_store_url, open_job_store, reach_job_store
from sa_ray.jobs.stores.port import JobStore
from sa_ray.jobs.usage import UsageMeter

__all__ = [
    "ChangedJobs",
    "Cursor",
    "Deferral",
    "JobApi",
    "JobChange",
    "JobCoordinator",
    "JobOptions",
    "JobSnapshot",
    "JobStore",
    "LeaseReport",
    "LeaseVerdict",
    "QueueCounts",
    "Submission",
    "UsageMeter",
    "change_of",
    "check_job_store_url",
    "open_job_store",
    "reach_job_store",
]
