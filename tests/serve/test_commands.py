"""The command line with a running service."""

import hashlib
import json
import os
import signal
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest
from tests.support.commands import BIN, run
from tests.support.service import SLOW, Service

PROMPTS = 12


def entries(folder: Path) -> list[dict[str, Any]]:
    _, *lines = (folder / "manifest.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_an_interrupted_batch_goes_on_where_it_was(service: Service, tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text(
        "prompt,duration,n\n" + "".join(f"rain {i},0.5,{1 + (i == 3)}\n" for i in range(PROMPTS))
    )
    asked = ["batch", "prompts.csv", "--out", "clips", "--parallel", "2"]
    command = [*asked, "--url", service.base_url, "--format", "flac"]
    last = service.submit()
    with subprocess.Popen(
        [str(BIN / "sa-ray"), *command],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("STABLE_AUDIO_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as begun:
        assert begun.stdout is not None
        first = begun.stdout.readline().strip()
        begun.send_signal(signal.SIGINT)
        _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130, said
    assert "Run the same again" in said
    assert "Traceback" not in said
    kept = (tmp_path / first).stat().st_mtime_ns

    ended = run("sa-ray", *command, "--json", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["made"] + told["there_already"] == PROMPTS
    assert told["there_already"] >= 1
    assert (tmp_path / first).stat().st_mtime_ns == kept
    made = [file for entry in entries(tmp_path / "clips") for file in entry["files"]]
    assert len(made) == PROMPTS + 1
    for file in made:
        data = (tmp_path / "clips" / file["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert soundfile.info(tmp_path / "clips" / file["name"]).duration == 0.5
    # One job of each request, however often the command ran.
    jobs = service.http.get(f"/jobs?limit={PROMPTS + 1}").json()["jobs"]
    assert jobs[-1]["id"] == last


def test_what_fails_is_told_and_tried_anew(service: Service, tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(service.generate(duration=0.5).content)
    lines = [
        {"prompt": "a bell", "init_audio": "in.wav", "output": "edits/bell.wav"},
        {"prompt": "a siren", "duration": 200, "model": "small-sfx"},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    command = ("batch", "requests.jsonl", "-o", "out", "--url", service.base_url)

    first = run("sa-ray", *command, cwd=tmp_path)

    assert first.returncode == 1
    assert first.stdout.split() == ["out/edits/bell.wav"]
    assert "line 2: duration is 200" in " ".join(first.stderr.split())
    assert [entry["error"] is None for entry in entries(tmp_path / "out")].count(True) == 1
    # With the same file mended, the rest is left as it is.
    file.write_text("\n".join(map(json.dumps, [lines[0], {**lines[1], "duration": 0.5}])))
    second = run("sa-ray", *command, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.split() == ["out/00002-a-siren.wav"]
    (tmp_path / "out" / "edits" / "bell.wav").unlink()
    third = run("sa-ray", *command, cwd=tmp_path)
    assert third.stdout.split() == ["out/edits/bell.wav"]


def test_jobs_are_listed_shown_watched_downloaded_and_deleted(
    service: Service, tmp_path: Path
) -> None:
    before = [service.submit(**SLOW) for _ in range(20)]
    job_id = service.submit(prompt="a  bell\n[red]", format="flac")
    slow = service.submit(**SLOW, priority="low")  # it waits for those, however long commands take
    at = ("--url", service.base_url)

    def ask(*command: str, status: int = 0) -> str:
        done = run("sa-ray", *command, *at, cwd=tmp_path)
        assert done.returncode == status, done.stderr
        return done.stdout

    assert ask("jobs", "watch", job_id) == "succeeded\n"
    assert ask("jobs", "download", job_id) == f"{job_id}.flac\n"
    assert soundfile.info(tmp_path / f"{job_id}.flac").duration == 0.5
    listed = [line.split("\t") for line in ask("jobs", "list", "-n", "2").splitlines()]
    assert [line[0] for line in listed] == [slow, job_id]
    assert (listed[1][1], listed[1][4:]) == ("succeeded", ["0.5 s", "a bell [red]"])
    [told] = json.loads(ask("jobs", "list", "-n", "1", "--status", "succeeded", "--json"))
    assert (told["id"], told["prompt"]) == (job_id, "a  bell\n[red]")
    assert "status\tsucceeded\n" in ask("jobs", "show", job_id)
    assert json.loads(ask("jobs", "show", job_id, "--json"))["id"] == job_id
    ask("jobs", "cancel", slow, job_id)
    assert ask("jobs", "watch", slow, status=1) == "cancelled\n"
    ask("jobs", "show", job_id, status=1)
    for one in before:
        service.http.delete(f"/jobs/{one}")


def test_pages_of_jobs_follow_each_other(service: Service) -> None:
    with Client(service.base_url) as client:
        made = [client.submit(GenerationRequest(prompt="x", duration=0.1)).id for _ in range(202)]
        listed = [job.id for job in islice(client.jobs(), 202)]

    assert listed == made[::-1]


def test_models_are_listed_with_their_defaults(service: Service, tmp_path: Path) -> None:
    done = run("sa-ray", "models", service.base_url, cwd=tmp_path)

    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["small-sfx (default)", "small-music", "medium"]
    assert rows[2][2:5] == ["380 s", "8", "1"]
