"""Progress of running attempts: reported about every second, and not worth a disk write."""

from sa_ray.contracts import Job
from sa_ray.jobs.changes import shown_progress


class LiveProgress:
    """Progress by job, in memory. Within one lease (token) it never goes backwards."""

    def __init__(self) -> None:
        self._by_job: dict[str, tuple[int, float]] = {}

    def note(self, job_id: str, token: int, progress: float) -> bool:
        """Note a fraction in [0, 1]; return whether another is shown now.

        One reported under an older token is ignored.
        """
        known_token, known = self._by_job.get(job_id, (token, 0.0))
        if token < known_token:
            return False
        if token > known_token:
            known = 0.0
        latest = min(max(progress, known), 1.0)
        self._by_job[job_id] = token, latest
        return shown_progress(latest) != shown_progress(known)

    def has_begun(self, job_id: str, token: int) -> bool:
        """Return whether the attempt under ``token`` has got anywhere."""
        known_token, known = self._by_job.get(job_id, (0, 0.0))
        return known_token == token and known > 0

    def drop(self, job_id: str, token: int) -> None:
        """Forget the job, unless a lease after ``token`` has reported already."""
        if job_id in self._by_job and self._by_job[job_id][0] <= token:
            del self._by_job[job_id]

    def overlaid(self, job: Job) -> Job:
        """Return ``job`` with the progress of its current attempt, if it is running."""
        token, progress = self._by_job.get(job.id, (0, 0.0))
        if job.status != "running" or token != job.token:
            return job
        return job.model_copy(update={"progress": progress})
