"""The job flow over HTTP, on a local folder."""

import hashlib
import io
import json
import uuid
from datetime import datetime
from itertools import pairwise

import httpx
import pytest
import soundfile

from tests.support.service import SLOW, Service

JSON = {"Content-Type": "application/json"}


def test_submit_poll_download(service: Service) -> None:
    body = {
        "model": "small-sfx",
        "prompt": "short metallic impact with room reverb",
        "duration": 5,
        "steps": 8,
    }

    accepted = service.http.post("/jobs", json=body)

    assert accepted.status_code == 202
    answer = accepted.json()
    assert set(answer) == {"id", "status", "status_url"}
    assert len(answer["id"]) == 32
    assert answer["status"] == "queued"
    assert answer["status_url"] == f"{service.base_url}/jobs/{answer['id']}"
    assert accepted.headers["location"] == answer["status_url"]

    view = service.wait_for(answer["id"])

    assert view["status"] == "succeeded", view
    assert view["model"] == "small-sfx"
    assert view["duration"] == 5
    assert view["steps"] == 8
    assert view["storage_backend"] == "local"
    assert view["storage_key"] == f"{answer['id']}.wav"
    assert view["sample_rate"] == 44_100
    assert view["engine"] == "procedural"
    assert view["audio_duration"] == 5.0
    assert view["progress"] == 100
    assert view["attempts"] == 1
    assert view["error"] is None
    times = [datetime.fromisoformat(view[f"{what}_at"]) for what in ("created", "started")]
    times.append(datetime.fromisoformat(view["completed_at"]))
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert view["timings"]["generation_seconds"] > 0

    download = httpx.get(view["download_url"])

    assert download.status_code == 200
    assert download.headers["content-type"] == "audio/wav"
    assert hashlib.sha256(download.content).hexdigest() == view["sha256"]
    assert len(download.content) == view["size_bytes"]
    info = soundfile.info(io.BytesIO(download.content))
    assert (info.samplerate, info.channels, info.frames) == (44_100, 2, 5 * 44_100)
    assert (service.outputs / f"{answer['id']}.wav").read_bytes() == download.content


def test_a_job_and_a_synchronous_request_give_the_same_audio(service: Service) -> None:
    sync = service.generate(prompt="a bell", duration=1, seed=9)
    job = service.wait_for(service.submit(prompt="a bell", duration=1, seed=9))

    assert httpx.get(job["download_url"]).content == sync.content


@pytest.mark.parametrize("fmt", ["flac", "mp3", "ogg"])
def test_jobs_keep_their_format(service: Service, fmt: str) -> None:
    job = service.wait_for(service.submit(format=fmt))

    download = httpx.get(job["download_url"])

    assert job["storage_key"].endswith(f".{fmt}")
    assert download.headers["content-type"].startswith("audio/")
    assert download.headers["content-disposition"].endswith(f'{fmt}"')
    assert soundfile.info(io.BytesIO(download.content)).channels == 2


def test_part_of_the_audio_can_be_asked_for(service: Service) -> None:
    url = service.wait_for(service.submit())["download_url"]
    whole = httpx.get(url).content

    part = httpx.get(url, headers={"Range": "bytes=100-199"})
    past = httpx.get(url, headers={"Range": f"bytes={len(whole)}-"})

    assert part.status_code == 206
    assert part.content == whole[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert past.status_code == 416


def test_a_job_reads_the_same_whether_its_request_has_a_query_or_none(service: Service) -> None:
    ended = service.wait_for(service.submit(n=2))["id"]
    unknown, malformed = "0" * 32, "x"

    for job_id in (ended, unknown, malformed):
        plain, queried = (service.http.get(f"/jobs/{job_id}{query}") for query in ("", "?wait=0"))

        assert plain.status_code == queried.status_code == (200 if job_id == ended else 404)
        told = [
            answer.text.replace(answer.headers["x-request-id"], "") for answer in (plain, queried)
        ]
        assert told[0] == told[1]
        assert plain.headers["content-type"] == queried.headers["content-type"]

    head = service.http.head(f"/jobs/{ended}")
    assert (head.status_code, head.content) == (200, b"")


def test_a_submit_is_answered_as_its_route_says(service: Service) -> None:
    headers = {"Idempotency-Key": f"key-{uuid.uuid4()}"}
    body = {"prompt": "a bell", "duration": 1}

    made, found, other, keyless, malformed, wrong = (
        service.http.post("/jobs", content=content, headers=JSON | headers)
        for content, headers in (
            (json.dumps(body), headers),
            (json.dumps(body), headers),
            (json.dumps(body | {"duration": 2}), headers),
            (json.dumps(body), {"Idempotency-Key": "k" * 256}),
            ("{", {}),
            (json.dumps(body | {"duration": "long"}), {}),
        )
    )

    assert (made.status_code, found.status_code) == (202, 200)
    assert made.json() == found.json() | {"status": "queued"}
    assert made.headers["location"] == found.headers["location"] == made.json()["status_url"]
    assert made.headers["content-type"] == found.headers["content-type"] == "application/json"
    assert "idempotent-replayed" not in made.headers
    assert found.headers["idempotent-replayed"] == "true"
    errors = [answer.json()["error"] for answer in (other, keyless, malformed, wrong)]
    assert [answer.status_code for answer in (other, keyless, malformed, wrong)] == [
        409, 422, 400, 422,
    ]  # fmt: skip
    assert [error["param"] for error in errors] == [
        "Idempotency-Key", "idempotency-key", None, "duration",
    ]  # fmt: skip


def test_progress_is_visible(service: Service) -> None:
    job_id = service.submit(**SLOW, n=3)

    seen = set()
    while (view := service.job(job_id))["status"] != "succeeded":
        assert view["status"] in ("queued", "running")
        seen.add(view["progress"])

    assert len(seen - {0.0, 100.0}) >= 2, seen


def test_audio_of_an_unfinished_job_is_409(service: Service) -> None:
    job_id = service.submit(**SLOW)

    response = service.http.get(f"/jobs/{job_id}/audio")
    service.http.delete(f"/jobs/{job_id}")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "job_not_ready"


def test_a_running_job_is_cancelled_and_leaves_nothing(service: Service) -> None:
    job_id = service.submit(**SLOW)
    service.wait_for(job_id, "running")

    answer = service.http.delete(f"/jobs/{job_id}")
    view = service.wait_for(job_id)

    assert answer.status_code == 200
    assert answer.json()["cancel_requested"] is True
    assert view["status"] == "cancelled"
    assert view["download_url"] is None
    assert service.http.get(f"/jobs/{job_id}/audio").status_code == 409
    assert not list(service.outputs.glob(f"{job_id}*"))


def test_deleting_a_finished_job_removes_job_and_audio(service: Service) -> None:
    job_id = service.submit()
    view = service.wait_for(job_id)

    answer = service.http.delete(f"/jobs/{job_id}")

    assert answer.status_code == 204
    assert service.http.get(f"/jobs/{job_id}").status_code == 404
    assert httpx.get(view["download_url"]).status_code == 404
    assert not list(service.outputs.glob(f"{job_id}*"))


def test_audio_that_someone_removed_is_410(service: Service) -> None:
    view = service.wait_for(service.submit())
    (service.outputs / view["storage_key"]).unlink()

    response = httpx.get(view["download_url"])

    assert response.status_code == 410
    assert response.json()["error"]["code"] == "audio_gone"


def test_jobs_are_listed_newest_first_page_by_page(service: Service) -> None:
    ids = [service.submit() for _ in range(5)]

    pages, cursor = [], None
    while len(pages) < 3:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = service.http.get("/jobs", params=query).json()
        pages.append([job["id"] for job in page["jobs"]])
        cursor = page["next_cursor"]

    assert [job_id for page in pages for job_id in page][:5] == ids[::-1]


def test_every_job_of_a_burst_ends_with_its_own_audio(service: Service) -> None:
    ids = [service.submit(seed=seed) for seed in range(30)]

    views = [service.wait_for(job_id) for job_id in ids]

    assert [view["status"] for view in views] == ["succeeded"] * 30
    assert [view["seed"] for view in views] == list(range(30))
    assert len({view["sha256"] for view in views}) == 30


def test_a_job_of_several_clips_has_a_file_for_each(service: Service) -> None:
    job_id = service.submit(n=3, seed=5)

    view = service.wait_for(job_id, "succeeded")

    assert (view["n"], view["seed"], view["progress"]) == (3, 5, 100)
    files = view["results"]
    assert [(file["index"], file["seed"]) for file in files] == [(0, 5), (1, 6), (2, 7)]
    assert [file["storage_key"] for file in files] == [
        f"{job_id}.wav", f"{job_id}_1.wav", f"{job_id}_2.wav"
    ]  # fmt: skip
    for name in ("download_url", "size_bytes", "sha256", "audio_duration", "warning"):
        assert files[0][name] == view[name]
    clips = [httpx.get(file["download_url"]) for file in files]
    for file, clip in zip(files, clips, strict=True):
        assert hashlib.sha256(clip.content).hexdigest() == file["sha256"]
        assert clip.headers["x-seed"] == str(file["seed"])
    alone = service.generate(duration=0.5, seed=6)
    assert clips[1].content == alone.content

    part = service.http.get(f"/jobs/{job_id}/audio?index=2", headers={"Range": "bytes=100-199"})
    none = service.http.get(f"/jobs/{job_id}/audio?index=3")
    service.http.delete(f"/jobs/{job_id}")

    assert (part.status_code, part.content) == (206, clips[2].content[100:200])
    assert (none.status_code, none.json()["error"]["param"]) == (422, "index")
    assert not list(service.outputs.glob(f"{job_id}*"))


def test_a_file_of_a_job_of_one_clip_is_listed_too(service: Service) -> None:
    view = service.wait_for(service.submit(), "succeeded")

    [file] = view["results"]

    assert file["download_url"] == view["download_url"]
    assert service.http.get(f"/jobs/{view['id']}/audio?index=1").status_code == 422


def test_of_a_batch_each_request_is_answered_by_itself(service: Service) -> None:
    requests = [
        {"prompt": "rain", "duration": 0.1, "seed": 1},
        {"prompt": "rain", "durations": 0.1},
        {"prompt": "rain", "duration": 10_000},
        "rain",
        {"prompt": "rain", "duration": 0.1, "seed": 2, "n": 2},
    ]

    answer = service.http.post("/jobs/batch", json={"requests": requests})

    assert answer.status_code == 202, answer.text
    first, unknown, too_long, text, last = answer.json()["jobs"]
    assert set(first) == {"id", "status", "status_url"}
    assert "did you mean duration" in unknown["error"]["message"]
    assert (unknown["status_code"], unknown["retry_after"]) == (422, None)
    assert set(too_long["error"]) == {"code", "message", "param", "request_id"}
    assert too_long["error"]["param"] == "duration"
    assert text["error"]["message"] == "The body must be one JSON object."
    assert httpx.get(first["status_url"]).json()["seed"] == 1
    assert len(service.wait_for(last["id"], "succeeded")["results"]) == 2


def test_a_batch_that_is_repeated_adds_nothing(service: Service) -> None:
    requests = [{"prompt": "rain", "duration": 0.05, "steps": 1, "seed": n} for n in range(40)]
    bad = [{"prompt": ""}]

    def post(requests: list[dict[str, object]]) -> list[dict[str, object]]:
        key = {"Idempotency-Key": "a batch"}
        answer = service.http.post("/jobs/batch", json={"requests": requests}, headers=key)
        assert answer.status_code == 202
        jobs: list[dict[str, object]] = answer.json()["jobs"]
        return jobs

    first = post([*requests, *bad])
    again = post([*requests, *bad])
    mended = post([*requests, {"prompt": "rain", "duration": 0.05}])
    other = post([{"prompt": "wind", "duration": 0.05}])

    assert len({job["id"] for job in first[:-1]}) == 40
    assert [job.get("id") for job in again] == [job.get("id") for job in first]
    assert [job["id"] for job in mended[:-1]] == [job["id"] for job in first[:-1]]
    assert "id" in mended[-1], "what made no job before"
    assert [job["status_code"] for job in other] == [409]
    assert service.wait_for(str(mended[-1]["id"]))["status"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "param"),
    [({"requests": []}, "requests"), ({"requests": [{}] * 1001}, "requests"), ({}, "requests"),
     ({"prompt": "rain", "requests": [{}]}, "prompt"), ([], None)],
)  # fmt: skip
def test_of_a_batch_that_is_none_nothing_is_taken(
    service: Service, body: object, param: str | None
) -> None:
    answer = service.http.post("/jobs/batch", json=body)

    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == param


def test_a_batch_may_be_larger_than_other_requests(service: Service) -> None:
    requests = [{"prompt": "x" * 9_000, "duration": 20_000}] * 100

    answer = service.http.post("/jobs/batch", json={"requests": requests})
    over = service.http.post("/jobs/batch", json={"requests": requests * 5})

    assert answer.status_code == 202
    assert {job["status_code"] for job in answer.json()["jobs"]} == {422}
    assert over.status_code == 413
