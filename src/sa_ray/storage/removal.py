"""Remove what jobs have stored: where their records say, and whatever other attempts left."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from sa_ray.contracts import Job
from sa_ray.errors import ObjectElsewhereError, ObjectStoreError
from sa_ray.settings.storage import StorageSettings
from sa_ray.storage.keys import attempt_keys, object_key
from sa_ray.storage.locations import ObjectStores, elsewhere
from sa_ray.storage.port import ObjectStore
from sa_ray.storage.threads import in_thread
from sa_ray.storage.uploads import Uploads

MAX_CONCURRENT_REMOVALS: Final = 4

Refusal = ObjectStoreError | ObjectElsewhereError
"""Why an object is not removed: it may pass, or it is out of reach."""


class Removal:
    """Removes objects of jobs, many at a time. For one event loop."""

    def __init__(self, settings: StorageSettings, stores: ObjectStores, uploads: Uploads) -> None:
        self._settings = settings
        self._stores = stores
        self._uploads = uploads
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_REMOVALS, "object-removal")

    async def withdraw(self, job: Job) -> None:
        """Stop the uploads of the attempt ``job.token``, and leave no object of it.

        Objects of other attempts stay, and so the result of one that has succeeded since.
        """
        await self._uploads.stop(job.id, up_to=job.token)
        name = partial(object_key, self._settings, job.id, job.token, job.request.format)
        keys = [name(index) for index in range(job.request.n)]
        failures = await in_thread(self._threads, lambda: self._stores.current.delete(keys))
        for failure in failures.values():
            raise failure

    async def discard(self, jobs: Sequence[Job]) -> list[Refusal | None]:
        """Stop the uploads of the jobs and leave no object; return for each why one may be left."""
        return await self._remove(jobs, with_result=True)

    async def tidy(self, jobs: Sequence[Job]) -> list[Refusal | None]:
        """Do as ``discard`` does, but keep the results."""
        return await self._remove(jobs, with_result=False)

    async def _remove(self, jobs: Sequence[Job], *, with_result: bool) -> list[Refusal | None]:
        for job in jobs:
            await self._uploads.stop(job.id)
        work = partial(self._remove_now, jobs, with_result=with_result)
        return await in_thread(self._threads, work)

    def _remove_now(self, jobs: Sequence[Job], *, with_result: bool) -> list[Refusal | None]:
        refusals: dict[str, Refusal] = {}
        places: dict[str, tuple[ObjectStore, dict[str, Job]]] = {}
        for job in jobs:
            try:
                store = self._place(job, with_result=with_result)
            except (ObjectStoreError, ObjectElsewhereError) as refusal:
                refusals[job.id] = refusal
            else:
                _, jobs_by_key = places.setdefault(store.location, (store, {}))
                jobs_by_key |= dict.fromkeys(self._keys(job, with_result=with_result), job)
        for store, jobs_by_key in places.values():
            try:
                failures = store.delete(jobs_by_key.keys())
            except ObjectStoreError as error:
                failures = dict.fromkeys(jobs_by_key, error)
            for key, failure in failures.items():
                job = jobs_by_key[key]
                refusals[job.id] = self._refusal(store, job, failure)
        return [refusals.get(job.id) for job in jobs]

    def _keys(self, job: Job, *, with_result: bool) -> set[str]:
        keys = set(attempt_keys(self._settings, job))
        if job.result:
            stored = {clip.object.key for clip in job.result.clips}
            keys = keys | stored if with_result else keys - stored
        return keys

    def _place(self, job: Job, *, with_result: bool) -> ObjectStore:
        if job.result is None:
            return self._stores.current
        stored = job.result.object
        store = self._stores.holding(stored)
        moved = stored.location not in (None, store.location)
        if moved and with_result and store.size(stored.key) is None:
            raise elsewhere(stored)
        return store

    def _refusal(self, store: ObjectStore, job: Job, error: ObjectStoreError) -> Refusal:
        if job.result is None or error.transient or store is self._stores.current:
            return error
        return elsewhere(job.result.object, error.message)
