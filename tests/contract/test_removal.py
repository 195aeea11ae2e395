"""Removing what jobs have stored, also after a change of where objects go."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sa_ray.contracts import Job, StoredClip
from sa_ray.errors import ObjectElsewhereError, ObjectStoreError
from sa_ray.jobs import lifecycle
from sa_ray.storage import ObjectStores, Removal, Uploads, object_key
from tests.support.jobs import RESULT, resolved
from tests.support.object_stores import delete, folder_keys, keys, s3_settings
from tests.support.s3_server import S3Server
from tests.support.secret_settings import settings_of

MANY = 1500
"""More than one request of S3 deletes."""


class Place:
    """Where objects go under some settings, and what is removed under them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings_of(settings).storage
        self.stores = ObjectStores(self.settings)
        uploads = Uploads(self.stores.current, lambda *_: "")
        self.removal = Removal(self.settings, self.stores, uploads)

    def stored(self, *, attempts: int = 1, with_location: bool = True, n: int = 1) -> Job:
        """A job of ``n`` clips that has succeeded in its last attempt; the objects of each."""
        request = resolved().model_copy(update={"n": n})
        job = lifecycle.new_job(uuid4().hex, request, 1.0)
        for token in range(1, attempts + 1):
            job = lifecycle.lease(job, "worker", 1.0)
            keys = [object_key(self.settings, job.id, token, "wav", index) for index in range(n)]
            stored, *others = [
                self.stores.current.put(
                    key, b"sound", content_type="audio/wav", filename="clip.wav"
                )
                for key in keys
            ]
            if token < attempts:
                job = lifecycle.release(job, token, 1.0)
        if not with_location:
            stored = stored.model_copy(update={"location": None})
        clips = tuple(StoredClip(audio=RESULT.audio, object=other) for other in others)
        result = RESULT.model_copy(update={"object": stored, "others": clips})
        return lifecycle.succeed(job, attempts, result, 2.0)

    def objects(self, job: Job) -> list[str]:
        """The names of the job's objects."""
        names = (key.rpartition("/")[2] for key in keys(self.settings))
        return [name for name in names if name.startswith(job.id)]


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "s3":
        return s3_settings(request.getfixturevalue("s3_server"))
    return {"storage_bucket": "", "output_dir": tmp_path / "outputs"}


async def test_all_objects_of_jobs_are_removed(settings: dict[str, Any]) -> None:
    place = Place(**settings)
    once, often, other = place.stored(), place.stored(attempts=3), place.stored()

    assert await place.removal.discard([once, often]) == [None, None]

    assert place.objects(once) == place.objects(often) == []
    assert place.objects(other) == [f"{other.id}.wav"]
    assert await place.removal.discard([once]) == [None]


async def test_all_but_the_result_is_tidied_away(settings: dict[str, Any]) -> None:
    place = Place(**settings)
    job = place.stored(attempts=3)

    assert await place.removal.tidy([job]) == [None]

    assert place.objects(job) == [f"{job.id}-3.wav"]


async def test_all_clips_of_a_job_are_kept_and_removed_together(settings: dict[str, Any]) -> None:
    place = Place(**settings)
    job = place.stored(attempts=2, n=3)

    assert await place.removal.tidy([job]) == [None]

    assert place.objects(job) == [f"{job.id}-2.wav", f"{job.id}-2_1.wav", f"{job.id}-2_2.wav"]
    assert await place.removal.discard([job]) == [None]
    assert place.objects(job) == []


async def test_an_attempt_is_withdrawn_alone(settings: dict[str, Any]) -> None:
    place = Place(**settings)
    job = place.stored(attempts=2)

    await place.removal.withdraw(job.model_copy(update={"token": 1}))

    assert place.objects(job) == [f"{job.id}-2.wav"]


async def test_many_are_removed_at_once(settings: dict[str, Any]) -> None:
    place = Place(**settings)
    first, last = place.stored(), place.stored()
    never_stored = [lifecycle.lease(lifecycle.new_job(uuid4().hex, resolved(), 1.0), "w", 1.0)]
    jobs = [first, *never_stored * MANY, last]

    assert await place.removal.discard(jobs) == [None] * len(jobs)

    assert place.objects(first) == place.objects(last) == []


@pytest.mark.parametrize("with_location", [True, False])
async def test_a_change_of_prefix_leads_nobody_astray(
    settings: dict[str, Any], with_location: bool
) -> None:
    before = Place(**settings, storage_prefix="before")
    after = Place(**settings, storage_prefix="after/deep")
    job = before.stored(attempts=2, with_location=with_location)

    assert await after.removal.discard([job]) == [None]

    assert before.objects(job) == []


async def test_an_object_in_another_bucket_or_folder_is_removed_and_found(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"output_dir": tmp_path / "new"}
    if settings["storage_bucket"]:
        changes = {"storage_bucket": "other", "storage_public_base_url": "https://cdn.example/"}
    before, after = Place(**settings), Place(**settings | changes)
    job = before.stored(attempts=2)
    assert job.result is not None
    stored = job.result.object

    assert after.stores.holding(stored).size(stored.key) == 5
    url = after.stores.url(stored)
    assert url is None or settings["storage_bucket"] in url
    assert await after.removal.discard([job]) == [None]

    assert before.objects(job) == []


async def test_an_object_in_a_folder_that_has_moved_is_removed(tmp_path: Path) -> None:
    before = Place(storage_bucket="", output_dir=tmp_path / "old")
    job, lost = before.stored(), before.stored()
    delete(before.stores.current, f"{lost.id}.wav")
    (tmp_path / "old").rename(tmp_path / "new")
    after = Place(storage_bucket="", output_dir=tmp_path / "new")

    refusals = await after.removal.discard([job, lost])

    assert refusals[0] is None
    assert folder_keys(tmp_path / "new") == []
    # It may as well lie in a folder that only another machine has.
    assert isinstance(refusals[1], ObjectElsewhereError)
    assert str(tmp_path / "old") in refusals[1].message
    assert "STABLE_AUDIO_OUTPUT_DIR" in refusals[1].message


async def test_an_object_behind_another_name_of_the_endpoint_is_removed(
    s3_server: S3Server,
) -> None:
    before = Place(**s3_settings(s3_server))
    renamed = s3_server.endpoint_url.replace("127.0.0.1", "localhost")
    after = Place(**s3_settings(s3_server, storage_endpoint_url=renamed))
    job, lost = before.stored(), before.stored()
    delete(before.stores.current, object_key(before.settings, lost.id, 1, "wav"))

    refusals = await after.removal.discard([job, lost])

    assert refusals[0] is None
    assert before.objects(job) == []
    assert isinstance(refusals[1], ObjectElsewhereError)
    assert "STABLE_AUDIO_STORAGE_BUCKET" in refusals[1].message


async def test_what_is_out_of_reach_is_told_and_keeps_no_other_from_being_removed(
    s3_server: S3Server, tmp_path: Path
) -> None:
    local = Place(storage_bucket="", output_dir=tmp_path)
    bucket = Place(**s3_settings(s3_server))
    elsewhere = Place(
        **s3_settings(
            s3_server,
            storage_bucket="other",
            storage_endpoint_url=s3_server.endpoint_url.replace("127.0.0.1", "localhost"),
        )
    )
    job, at_hand = bucket.stored(), local.stored()

    here = await local.removal.discard([job, at_hand])
    there = await elsewhere.removal.discard([job])

    assert here[1] is None
    assert local.objects(at_hand) == []
    for refusal in (here[0], there[0]):
        assert isinstance(refusal, ObjectElsewhereError)
        assert "/sounds" in refusal.message
    assert bucket.objects(job) == [f"{job.id}.wav"]


async def test_a_refusal_of_the_store_in_use_is_no_loss_of_reach(s3_server: S3Server) -> None:
    place = Place(**s3_settings(s3_server))
    reader = Place(**s3_settings(s3_server, s3_server.reader))
    jobs = [place.stored(), place.stored()]

    for refusal in await reader.removal.discard(jobs):
        assert isinstance(refusal, ObjectStoreError)
        assert "AWS_ACCESS_KEY_ID" in refusal.message

    assert place.objects(jobs[0]) == [f"{jobs[0].id}.wav"]


async def test_one_object_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    place = Place(storage_bucket="", output_dir=tmp_path / "outputs")
    kept, removed = place.stored(), place.stored()
    (tmp_path / "outside").write_bytes(b"")
    path = tmp_path / "outputs" / f"{kept.id}.wav"
    path.unlink()
    path.symlink_to(tmp_path / "outside")

    refusals = await place.removal.discard([kept, removed])

    assert isinstance(refusals[0], ObjectStoreError)
    assert refusals[1] is None
    assert place.objects(removed) == []
