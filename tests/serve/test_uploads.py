"""Audio that clients send: what is taken, what is answered, and what is refused."""

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile as sf

from sa_ray.audio import read_source
from sa_ray.client import ApiError, Client
from tests.support.service import Service

MIB = 1 << 20
RAW = {"Content-Type": "application/octet-stream"}


def audio(seed: int, seconds: float = 1.0, rate: int = 44_100, container: str = "WAV") -> bytes:
    samples = np.random.default_rng(seed).integers(-30_000, 30_000, (round(seconds * rate), 2))
    file = io.BytesIO()
    sf.write(file, samples.astype(np.int16), rate, format=container, subtype="PCM_16")
    return file.getvalue()


def pieces(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def stored(service: Service, upload_id: str) -> Path:
    return service.outputs / "uploads" / f"{upload_id}.flac"


def test_audio_is_kept_and_found_until_it_is_deleted(service: Service) -> None:
    data = audio(1, seconds=2, rate=48_000)

    answer = service.http.post("/v1/uploads", content=data, headers={"Content-Type": "audio/wav"})

    assert answer.status_code == 201, answer.text
    view = answer.json()
    digest = hashlib.sha256(data).hexdigest()
    expires_at = datetime.fromisoformat(view.pop("expires_at"))
    in_a_day = datetime.now(UTC) + timedelta(days=1)
    assert in_a_day - timedelta(minutes=1) < expires_at <= in_a_day
    assert view == {
        "id": digest,
        "seconds": 2.0,
        "sample_rate": 48_000,
        "channels": 2,
        "format": "wav",
        "size_bytes": len(data),
        "sha256": digest,
    }
    url = f"/v1/uploads/{digest}"
    assert answer.headers["location"] == f"{service.base_url}{url}"
    assert service.http.get(url).json() == answer.json()

    assert service.http.delete(url).status_code == 204
    gone = service.http.get(url)
    assert gone.status_code == service.http.delete(url).status_code == 404
    assert gone.json()["error"]["code"] == "upload_not_found"
    assert not stored(service, digest).exists()


def test_samples_are_stored_as_they_were_sent(service: Service) -> None:
    data = audio(2)

    view = service.http.post("/v1/uploads", content=data, headers=RAW).json()

    sent, _ = sf.read(io.BytesIO(data), dtype="float32")
    assert np.array_equal(read_source(stored(service, view["id"]).read_bytes()), sent.T)


def test_the_same_file_is_stored_once_however_it_is_sent(service: Service, tmp_path: Path) -> None:
    data = audio(3, seconds=20)  # more than goes through the proxy at once
    file = tmp_path / "a sound.wav"
    file.write_bytes(data)

    raw = service.http.post("/v1/uploads", content=pieces(data), headers=RAW)
    written = stored(service, raw.json()["id"]).stat().st_mtime_ns
    form = service.http.post("/v1/uploads", files={"audio": ("a sound.wav", data, "audio/wav")})
    with Client(service.base_url) as client:
        sent = [client.upload(file), client.upload(data)]

    assert (raw.status_code, form.status_code) == (201, 201), form.text
    assert len({raw.json()["id"], form.json()["id"], *(one.id for one in sent)}) == 1
    assert form.json()["expires_at"] >= raw.json()["expires_at"]
    assert stored(service, sent[0].id).stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("body", "headers", "status", "told"),
    [
        (b"{}", {"Content-Type": "application/json"}, 415, "application/octet-stream"),
        (b"{}", {}, 415, "application/octet-stream"),
        (b"RIFF", {**RAW, "Content-Encoding": "gzip"}, 415, "Content-Encoding"),
        (b"", RAW, 422, "empty"),
        (b"not audio at all", RAW, 422, "Send WAV, FLAC, MP3, Ogg"),
        (audio(4, rate=4_000), RAW, 422, "Resample it to 44100"),
        (audio(5)[:40], RAW, 422, "Send WAV"),
        (b"--b--", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "has no file"),
        (b"nonsense", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
        (b"nonsense", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "the audio file"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_told(
    service: Service, body: bytes, headers: dict[str, str], status: int, told: str
) -> None:
    answer = service.http.post("/v1/uploads", content=body, headers=headers)

    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]["message"]
    assert answer.json()["error"]["request_id"]
    if status == 422:
        assert answer.json()["error"]["param"] == "audio"


def test_a_form_with_more_than_the_file_is_refused(service: Service) -> None:
    for more in ({"data": {"prompt": "rain"}}, {"files": {"a": b"x", "b": b"y"}}):
        answer = service.http.post("/v1/uploads", **({"files": {"a": audio(6)}} | more))
        assert answer.status_code == 400, answer.text
        assert "and nothing else" in answer.json()["error"]["message"]


def test_a_file_over_the_limit_is_refused_announced_or_not(service: Service) -> None:
    with Client(service.base_url) as client, pytest.raises(ApiError) as announced:
        client.upload(bytes(101 * MIB))
    endless = service.http.post(
        "/v1/uploads", content=(bytes(MIB) for _ in range(101)), headers=RAW, timeout=60
    )

    assert announced.value.status == endless.status_code == 413
    for told in (announced.value.message, endless.json()["error"]["message"]):
        assert "100 MiB, the limit that STABLE_AUDIO_MAX_UPLOAD_MB sets" in told


def test_an_id_that_none_can_be_is_not_found(service: Service) -> None:
    for upload_id in ("x", "0" * 64, "F" * 64, "..%2F" + "0" * 32):
        answer = service.http.get(f"/v1/uploads/{upload_id}")
        assert answer.status_code == 404


def test_a_client_that_leaves_in_its_file_is_forgotten(service: Service) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield bytes(3 * MIB)
        raise ConnectionAbortedError

    for _ in range(20):
        with pytest.raises(ConnectionAbortedError):
            httpx.post(f"{service.base_url}/v1/uploads", content=breaks_off(), headers=RAW)

    # 429 until the service knows that they have left.
    service.until(
        lambda: service.http.post("/v1/uploads", content=audio(7), headers=RAW).status_code == 201
    )
