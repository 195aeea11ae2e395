"""A service that signs what it makes."""

from pathlib import Path

from tests.support.service import Service
from tests.support.signing import Identity, read_credentials


def test_answers_and_jobs_are_signed(signing: Service, files: Identity) -> None:
    answer = signing.generate(duration=0.5, format="mp3")
    job_id = signing.submit(format="flac")
    job = signing.wait_for(job_id, "succeeded")
    stored = (signing.outputs / Path(job["storage_key"])).read_bytes()

    for data, media_type in ((answer.content, "audio/mpeg"), (stored, "audio/flac")):
        said = read_credentials(data, media_type, files.anchor)
        assert said["state"] == "Trusted"
        kind = said["actions"]["c2pa.created"]["digitalSourceType"]
        assert kind.endswith("/algorithmicMedia")
    assert len(stored) == job["size_bytes"]


def test_an_edit_names_its_upload(signing: Service, files: Identity) -> None:
    headers = {"Content-Type": "audio/wav"}
    sound = signing.generate(duration=0.5).content
    upload = signing.http.post("/v1/uploads", content=sound, headers=headers)
    assert upload.status_code == 201, upload.text

    edit = signing.generate(init_audio=upload.json()["id"])

    said = read_credentials(edit.content, "audio/wav", files.anchor)
    assert said["state"] == "Trusted"
    assert said["actions"]["c2pa.edited"]["digitalSourceType"].endswith("/composite")
    (ingredient,) = said["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert ingredient["active_manifest"], "the mark of the upload, which the service signed"
