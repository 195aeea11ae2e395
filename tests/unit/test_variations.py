"""Several clips of one request: made together, each checked and encoded by itself."""

import io
import pickle
import zipfile
from email import message_from_bytes, policy
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa_ray.audio import encode, provenance_of
from sa_ray.contracts import (
    MAX_SEED,
    SAMPLE_RATE,
    AudioFormat,
    AudioInfo,
    GenerationRequest,
    Job,
    Manifest,
    ResolvedRequest,
    Source,
    StoredObject,
)
from sa_ray.errors import GenerationError
from sa_ray.jobs import lifecycle
from sa_ray.serving.ingress.packing import Packed, in_parts, zipped
from sa_ray.serving.messages import AudioReady, EncodedAudio
from sa_ray.serving.variant.deployment import Variant
from sa_ray.serving.variant.joint_progress import joint_progress
from sa_ray.settings import CredentialSettings
from tests.support.jobs import RESULT, resolved
from tests.support.secret_settings import settings_of
from tests.support.signing import identity


def request(n: int, **fields: Any) -> ResolvedRequest:
    return resolved().model_copy(update={"n": n, "duration": 0.1, **fields})


class Unserved(Variant):
    """Has nobody to await its end, as Serve does."""

    def __del__(self) -> None:  # type: ignore[override]
        pass


def replica(max_batch_rows: int = 8, credentials: CredentialSettings | None = None) -> Variant:
    settings = settings_of({"variants": {"small-sfx": {"max_batch_rows": max_batch_rows}}})
    return Unserved(
        "small-sfx",
        "procedural",
        settings.models,
        settings.weights,
        credentials or settings.credentials,
        settings.jobs,
        settings.storage,
        gpu=None,
    )


def test_seeds_follow_each_other_and_begin_again_after_the_last() -> None:
    clips = request(3, seed=MAX_SEED - 1).variations()

    assert [(one.seed, one.n) for one in clips] == [(MAX_SEED - 1, 1), (MAX_SEED, 1), (0, 1)]


@pytest.mark.parametrize(("rows", "batches"), [(8, 1), (2, 2)])
async def test_clips_are_made_in_as_few_batches_as_they_fit(rows: int, batches: int) -> None:
    clips = await replica(rows).generate_all(request(4))

    assert [clip.info.seed for clip in clips] == [7, 8, 9, 10]
    assert len({clip.info.generation_seconds for clip in clips}) == batches


async def test_each_clip_is_the_one_that_its_seed_makes_alone(tmp_path: Path) -> None:
    made_by = replica()
    clips = await made_by.generate_all(request(3))
    alone = [await made_by.generate(one) for one in request(3).variations()]

    assert [clip.data for clip in clips] == [clip.data for clip in alone]
    assert len({clip.data for clip in clips}) == 3
    (tmp_path / "clip.wav").write_bytes(clips[1].data)
    found = provenance_of(tmp_path / "clip.wav").request
    assert (found.seed, found.n) == (8, 1)


async def test_a_stream_has_the_clips_in_turn() -> None:
    messages = [message async for message in replica().stream(request(2))]

    kinds = [type(message) for message in messages if isinstance(message, AudioReady | bytes)]
    assert kinds == [AudioReady, bytes] * 2


@pytest.mark.parametrize(("fmt", "reads"), [("wav", 2), ("ogg", 1)])
async def test_what_signed_clips_are_edited_from_is_fetched_once_and_before_the_work(
    fmt: AudioFormat, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    data = encode(np.full((2, 4_410), 0.1, np.float32), SAMPLE_RATE, "flac", tags={})
    stored = StoredObject(
        backend="local", key="upload", size=len(data), sha256=sha256(data).hexdigest()
    )

    class Reader:
        async def read(self, stored: StoredObject, start: int, length: int) -> bytes:
            told.append("read")
            return data[start : start + length]

    deployment = "sa_ray.serving.variant.deployment"
    monkeypatch.setattr(f"{deployment}.uploader_client", lambda _: Reader())
    monkeypatch.setattr(f"{deployment}.flaw_of", lambda _: told.append("made"))
    files = identity(tmp_path)
    signing = CredentialSettings(c2pa_certificate=files.certificate, c2pa_key=files.key)
    source = Source(upload_id="u", object=stored, seconds=0.1)

    clips = await replica(credentials=signing).generate_all(
        request(3, source=source, init_noise_level=0.5, format=fmt)
    )

    assert len(clips) == 3
    assert told == ["read"] * reads + ["made"] * 3


async def test_a_clip_that_cannot_be_made_fails_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flaws = iter([None, "has samples that are not numbers"])
    monkeypatch.setattr("sa_ray.serving.variant.deployment.flaw_of", lambda _: next(flaws))

    with pytest.raises(GenerationError, match="not numbers"):
        await replica().generate_all(request(2))


async def test_second_attempts_take_no_seed_of_another_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flaws = iter(["is silent", "is silent", None, None])
    monkeypatch.setattr("sa_ray.serving.variant.deployment.flaw_of", lambda _: next(flaws))

    clips = await replica().generate_all(request(2, retry_bad=True))

    assert [clip.info.seed for clip in clips] == [9, 10]


def test_progress_is_that_of_all_clips() -> None:
    told: list[float] = []
    first, second = joint_progress(2, told.append)

    first(0.5)
    second(1.0)
    first(0.1)  # its second attempt
    first(1.0)

    assert told == [0.25, 0.75, 0.75, 1.0]


def clips_of(seeds: list[int]) -> list[EncodedAudio]:
    info = RESULT.audio
    return [
        EncodedAudio(
            np.full(1_000, seed, np.uint8).tobytes(),
            info.model_copy(update={"seed": seed, "warning": "Silent." if seed == 8 else None}),
        )
        for seed in seeds
    ]


def test_a_zip_holds_the_files_as_they_are_and_says_what_they_are() -> None:
    clips = clips_of([7, 8])

    packed = zipped(request(2), clips)

    body = b"".join(packed.pieces)
    assert (packed.media_type, packed.length) == ("application/zip", len(body))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["0-7.wav", "1-8.wav", "manifest.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        # Known before the data: readers that never look back can take it apart.
        assert {entry.flag_bits for entry in archive.infolist()} == {0}
        assert [archive.read(name) for name in archive.namelist()[:2]] == [
            clip.data for clip in clips
        ]
        told = Manifest.model_validate_json(archive.read("manifest.json"))
    assert [(file.index, file.name, file.seed, file.warning) for file in told.files] == [
        (0, "0-7.wav", 7, None),
        (1, "1-8.wav", 8, "Silent."),
    ]
    assert [file.sha256 for file in told.files] == [sha256(one.data).hexdigest() for one in clips]
    assert clips[0].data in packed.pieces, "copied nothing"


def parts_of(packed: Packed) -> list[EmailMessage]:
    head = f"Content-Type: {packed.media_type}\r\n\r\n".encode()
    message = message_from_bytes(head + b"".join(packed.pieces), policy=policy.HTTP)
    return list(message.iter_parts())  # type: ignore[attr-defined]


def test_parts_hold_the_same() -> None:
    manifest, *files = parts_of(in_parts(request(2), clips_of([7, 8])))

    assert manifest.get_content_type() == "application/json"
    told = Manifest.model_validate_json(manifest.get_payload(decode=True))  # type: ignore[arg-type]
    assert [one.get_filename() for one in files] == [file.name for file in told.files]
    assert [one["Content-Length"] for one in files] == ["1000", "1000"]
    assert [one.get_content_type() for one in files] == ["audio/wav"] * 2


def test_a_result_of_an_earlier_release_is_that_of_one_clip() -> None:
    job = lifecycle.lease(lifecycle.new_job("0" * 32, resolved(), 1.0), "w", 1.0)
    stored = lifecycle.succeed(job, 1, RESULT, 2.0).model_dump(mode="json")
    del stored["result"]["others"], stored["request"]["n"]

    read = Job.model_validate(stored)

    assert read.result is not None
    assert read.request.n == len(read.result.clips) == 1
    assert read.result.clips[0].object == RESULT.object


def test_a_message_of_the_deploy_before_lacks_no_field() -> None:
    class Earlier(AudioInfo):
        def __reduce__(self) -> tuple[Any, ...]:
            state = self.__getstate__()
            del state["__dict__"]["warning"]
            return object.__new__, (AudioInfo,), state

    sent = pickle.dumps(Earlier(**RESULT.audio.model_dump()))

    assert pickle.loads(sent) == RESULT.audio  # noqa: S301 - ours


@pytest.mark.parametrize("n", [0, 9, 2.5, "2"])
def test_more_clips_than_allowed_are_refused(n: object) -> None:
    with pytest.raises(ValueError, match="n\n"):
        GenerationRequest.model_validate({"prompt": "rain", "n": n})
