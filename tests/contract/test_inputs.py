"""Audio of clients in the object store: kept for its time, on a folder and on a real S3 server."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sa_ray.contracts import ReadAudio, Upload
from sa_ray.storage import Inputs, open_object_store
from tests.support.clock import Clock
from tests.support.object_stores import keys, s3_settings
from tests.support.secret_settings import settings_of

TTL_S = 7200
GRACE_S = 3600
READ = ReadAudio(frames=88_200, sample_rate=48_000, channels=1, format="mp3")


class Place:
    """Inputs under an empty prefix, and a clock that begins now: the store has one of its own."""

    def __init__(self, **more: Any) -> None:
        self.settings = settings_of({"upload_ttl": TTL_S, **more}).storage
        self.store = open_object_store(self.settings)
        self.clock = Clock(time.time())
        self.inputs = self.another()

    def another(self) -> Inputs:
        return Inputs(self.settings, self.store, clock=self.clock)

    def kept(self, audio: bytes = b"fLaC") -> Upload:
        return self.inputs.keep(uuid4().hex * 2, READ, 1_000, audio)

    def left(self) -> list[str]:
        prefix = self.settings.storage_prefix if self.settings.storage_bucket else ""
        return keys(self.settings, prefix)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        return Place(**s3_settings(server, storage_prefix=uuid4().hex))
    return Place(storage_bucket="", output_dir=tmp_path / "outputs")


def test_what_was_kept_is_found_by_any_process_until_it_expires(place: Place) -> None:
    upload = place.kept(b"some audio")

    assert b"".join(place.store.read(upload.object.key)) == b"some audio"
    assert (upload.seconds, upload.size_bytes, upload.channels) == (2.0, 1_000, 1)
    assert upload.expires_at == place.clock() + TTL_S
    assert place.another().find(upload.id) == upload
    assert place.another().find("0" * 64) is None
    place.clock.now += TTL_S
    assert place.another().find(upload.id) is None


def test_the_same_content_is_stored_once_and_renewed(place: Place) -> None:
    upload = place.kept()
    place.clock.now += TTL_S - 1

    renewed = place.another().renew(upload.id)

    assert renewed == upload.model_copy(update={"expires_at": place.clock() + TTL_S})
    assert place.inputs.find(upload.id) == renewed
    assert len(place.left()) == 2
    place.clock.now += GRACE_S
    assert place.inputs.due() == []


def test_a_marked_file_is_kept_as_it_was_sent_and_goes_with_its_audio(place: Place) -> None:
    upload = place.inputs.keep(uuid4().hex * 2, READ, 1_000, b"fLaC", b"marked")

    assert upload.marked is not None
    assert upload.marked.format == READ.format
    assert b"".join(place.store.read(upload.marked.object.key)) == b"marked"
    assert place.another().find(upload.id) == upload
    assert place.inputs.renew(upload.id) is not None
    place.clock.now += TTL_S + GRACE_S
    place.inputs.sweep([upload.id], pinned=[upload.object.key])
    assert len(place.left()) == 3
    place.inputs.sweep([upload.id], pinned=[])
    assert place.left() == []


def test_a_file_without_its_mark_has_to_be_sent_again(place: Place) -> None:
    upload = place.inputs.keep(uuid4().hex * 2, READ, 1_000, b"fLaC", b"marked")
    assert upload.marked is not None
    place.store.delete([upload.marked.object.key])

    assert place.inputs.renew(upload.id) is None


def test_what_has_expired_or_lost_its_audio_has_to_be_sent_again(place: Place) -> None:
    expired, lost = place.kept(), place.kept()
    place.store.delete([lost.object.key])

    assert place.inputs.renew(lost.id) is None
    place.clock.now += TTL_S
    assert place.inputs.renew(expired.id) is None
    again = place.inputs.keep(expired.id, READ, 1_000, b"again")
    assert place.inputs.find(expired.id) == again


def test_what_has_expired_is_swept_after_a_grace_unless_a_job_needs_it(place: Place) -> None:
    old, pinned = place.kept(), place.kept()
    place.clock.now += TTL_S + GRACE_S - 1
    young = place.kept()
    assert place.inputs.due() == []
    place.clock.now += 1

    due = place.inputs.due()
    assert set(due) == {old.id, pinned.id}
    for _ in range(2):  # another sweeper may have listed them before
        place.another().sweep(due, {pinned.object.key})

    assert place.inputs.due() == [pinned.id]
    assert len(place.left()) == 4
    assert place.inputs.find(young.id) == young
    place.inputs.sweep([pinned.id], set())
    assert len(place.left()) == 2


def test_what_was_renewed_since_it_was_found_due_is_not_swept(place: Place) -> None:
    upload = place.kept()
    place.clock.now += TTL_S + GRACE_S
    due = place.inputs.due()
    place.another().keep(upload.id, READ, 1_000, b"again")

    assert due == [upload.id]
    place.inputs.sweep(due, ())
    assert place.inputs.find(upload.id) is not None


def test_what_is_somebody_elses_is_left_alone(place: Place) -> None:
    upload = place.kept()
    folder = upload.object.key.rpartition("/")[0]
    for name in ("notes.json", "a song.flac", f"{upload.id}.txt", f"{upload.id[1:]}.flac"):
        place.store.put(f"{folder}/{name}", b"mine", content_type="text/plain", filename=name)
    place.clock.now += 2 * (TTL_S + GRACE_S)

    assert place.inputs.due() == [upload.id]
    place.inputs.sweep(place.inputs.due(), ())
    assert len(place.left()) == 4


def test_audio_that_lost_its_record_is_swept_in_time(place: Place) -> None:
    upload = place.kept()
    record = upload.object.key.removesuffix("flac") + "json"
    place.store.delete([record])
    place.clock.now += TTL_S + GRACE_S - 5
    assert place.inputs.due() == []
    place.clock.now += 10

    place.inputs.sweep(place.inputs.due(), ())
    assert place.left() == []


def test_a_record_of_another_release_is_as_none(place: Place) -> None:
    upload = place.kept()
    record = upload.object.key.removesuffix("flac") + "json"
    place.store.put(record, b'{"v": 2}', content_type="application/json", filename="x.json")

    assert place.inputs.find(upload.id) is None
    assert place.inputs.renew(upload.id) is None


def test_what_is_removed_leaves_nothing(place: Place) -> None:
    upload = place.kept()

    for _ in range(2):
        place.inputs.remove(upload.id)
        assert place.inputs.find(upload.id) is None
        assert place.left() == []


def test_who_sent_the_same_file_owns_it_too_until_all_have_let_go(place: Place) -> None:
    upload_id = uuid4().hex * 2
    kept = place.inputs.keep(upload_id, READ, 1_000, b"fLaC", owner="bob")
    renewed = place.another().renew(upload_id, "ann")
    again = place.inputs.keep(upload_id, READ, 1_000, b"fLaC", owner="cid")

    assert kept.owners == ("bob",)
    assert renewed is not None
    assert renewed.owners == ("ann", "bob")
    assert again.owners == ("ann", "bob", "cid")

    for owner, left in (("bob", ("ann", "cid")), ("bob", ("ann", "cid")), ("ann", ("cid",))):
        place.inputs.remove(upload_id, owner)
        found = place.another().find(upload_id)
        assert found is not None
        assert found.owners == left
    place.inputs.remove(upload_id, "cid")
    assert place.left() == []


def test_what_has_expired_is_nobodys_when_it_is_sent_again(place: Place) -> None:
    upload_id = uuid4().hex * 2
    place.inputs.keep(upload_id, READ, 1_000, b"fLaC", owner="bob")
    place.clock.now += TTL_S

    assert place.inputs.renew(upload_id, "ann") is None
    assert place.inputs.keep(upload_id, READ, 1_000, b"fLaC", owner="ann").owners == ("ann",)


def test_an_upload_of_an_earlier_release_has_no_owner(place: Place) -> None:
    upload = place.kept()
    record = upload.model_dump_json(exclude={"owners"}).encode()
    key = upload.object.key.replace(".flac", ".json")
    place.store.put(key, record, content_type="application/json", filename="r.json")

    assert place.inputs.find(upload.id) == upload.model_copy(update={"owners": ("",)})
