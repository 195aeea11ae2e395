"""The command line with a running service."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest
from tests.support.commands import at_terminal, run_here
from tests.support.service import SLOW, Service

PROMPTS = 100

BAR = r"\d%.* left .*\d:\d\d"
"""Percent, and the time that is left or has gone by."""


def entries(folder: Path) -> list[dict[str, Any]]:
    _, *lines = (folder / "manifest.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@contextmanager
def medium_is_busy(service: Service) -> Iterator[None]:
    """Other jobs have the model for as long as it takes."""
    held = [service.submit(**SLOW) for _ in range(20)]
    try:
        yield
    finally:
        for job_id in held:
            service.http.delete(f"/jobs/{job_id}")


def test_a_batch_interrupted_at_a_terminal_goes_on_where_it_was(
    service: Service, tmp_path: Path
) -> None:
    rows = [f"rain {i},0.1,small-sfx,{1 + (i == 3)}\n" for i in range(PROMPTS - 1)]
    # The last waits, so that the batch can be interrupted, however fast the others are made.
    (tmp_path / "prompts.csv").write_text(
        "prompt,duration,model,n\n" + "".join(rows) + "thunder,0.1,medium,1\n"
    )
    asked = ["batch", "prompts.csv", "--out", "clips", "--url", service.base_url]
    command = [*asked, "--format", "flac"]
    last = service.submit()
    with medium_is_busy(service):
        shown, status = at_terminal(
            *command, cwd=tmp_path, interrupt_at=r"clips/00002-rain-0\.flac"
        )
    assert status == 130, shown
    assert re.search(BAR, shown), shown
    assert "Run the same again to go on" in shown
    assert "Interrupted." in shown
    assert "Traceback" not in shown
    first = tmp_path / "clips" / "00002-rain-0.flac"
    kept = first.stat().st_mtime_ns

    ended = run_here(*command, "--json", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    *made, summary = map(json.loads, ended.stdout.splitlines())
    counts = summary["summary"]
    assert counts["made"] + counts["there_already"] == PROMPTS
    assert counts["made"] == len(made) >= 1
    assert counts["there_already"] >= 1
    assert first.stat().st_mtime_ns == kept
    everything = entries(tmp_path / "clips")
    assert all(entry in everything for entry in made)
    files = [file for entry in everything for file in entry["files"]]
    assert len(files) == len({file["name"] for file in files}) == PROMPTS + 1
    for file in files:
        data = (tmp_path / "clips" / file["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert soundfile.info(tmp_path / "clips" / file["name"]).duration == 0.1
    # One job of each request, however often the command ran.
    with Client(service.base_url) as client:
        jobs = [job for job in islice(client.jobs(), PROMPTS + 21) if job.model != "medium"]
    assert jobs[PROMPTS - 1].id == last


def test_what_fails_is_told_and_tried_anew(service: Service, tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(service.generate(duration=0.5).content)
    lines = [
        {"prompt": "a bell", "init_audio": "in.wav", "output": "edits/bell.wav"},
        {"prompt": "a siren", "duration": 200, "model": "small-sfx"},
    ]
    text = "\n".join(map(json.dumps, lines))
    command = ("batch", "-", "-o", "out", "--url", service.base_url)

    first = run_here(*command, cwd=tmp_path, stdin=text)

    assert first.returncode == 1
    assert first.stdout.split() == ["out/edits/bell.wav"]
    assert "line 2: duration is 200" in first.stderr
    assert [entry["error"] is None for entry in entries(tmp_path / "out")].count(True) == 1
    # With the same lines mended, the rest is left as it is.
    text = "\n".join(map(json.dumps, [lines[0], {**lines[1], "duration": 0.5}]))
    second = run_here(*command, cwd=tmp_path, stdin=text)
    assert second.returncode == 0, second.stderr
    assert second.stdout.split() == ["out/00002-a-siren.wav"]
    (tmp_path / "out" / "edits" / "bell.wav").unlink()
    third = run_here(*command, cwd=tmp_path, stdin=text)
    assert third.stdout.split() == ["out/edits/bell.wav"]


def test_a_bar_is_drawn_at_a_terminal_and_not_in_a_pipe(service: Service, tmp_path: Path) -> None:
    command = ("generate", "a bell", "--duration", "0.5", "--url", service.base_url)

    shown, status = at_terminal(*command, cwd=tmp_path)
    piped = run_here(*command, "-o", "-", "--format", "flac", cwd=tmp_path)

    assert status == 0, shown
    assert re.search(BAR, shown), shown
    assert "clip.wav" in shown
    assert piped.returncode == 0, piped.stderr
    assert soundfile.info(BytesIO(piped.data)).duration == 0.5
    assert re.fullmatch(r"seed \d+\n", piped.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]


def test_a_clip_is_json_and_its_errors_are(service: Service, tmp_path: Path) -> None:
    command = ("generate", "-", "--json", "--url", service.base_url)

    made = run_here(*command, "--duration", "0.5", "-n", "2", cwd=tmp_path, stdin="a bell\n")
    refused = run_here(*command, "--model", "large", cwd=tmp_path, stdin="a bell")
    binary = run_here(*command, "-o", "-", cwd=tmp_path, stdin="a bell")
    again = run_here("regenerate", "clip-2.wav", *command[2:], cwd=tmp_path)

    told = json.loads(made.stdout)
    assert (told["prompt"], told["files"]) == ("a bell", ["clip-1.wav", "clip-2.wav"])
    assert [result["seed"] for result in told["results"]] == [told["seed"], told["seed"] + 1]
    assert json.loads(again.stdout)["same_bytes"] is True
    for ended, status, code, param in (
        (refused, 1, "invalid_request", "model"),
        (binary, 2, "usage", None),
    ):
        assert (ended.returncode, ended.stdout) == (status, "")
        error = json.loads(ended.stderr.splitlines()[-1])["error"]
        assert (error["code"], error["param"]) == (code, param)


def test_jobs_are_listed_shown_watched_downloaded_and_deleted(
    service: Service, tmp_path: Path
) -> None:
    with medium_is_busy(service):
        job_id = service.submit(prompt="a  bell\n[red]", format="flac")
        # It waits for those, however long commands take.
        slow = service.submit(**SLOW, priority="low")

        def ask(*command: str, status: int = 0) -> str:
            done = run_here(*command, "--url", service.base_url, cwd=tmp_path)
            assert done.returncode == status, done.stderr
            return done.stdout

        assert ask("jobs", "watch", job_id) == "succeeded\n"
        assert ask("jobs", "download", job_id) == f"{job_id}.flac\n"
        assert soundfile.info(tmp_path / f"{job_id}.flac").duration == 0.5
        told = json.loads(ask("jobs", "download", job_id, "--json"))
        assert (told["id"], told["files"]) == (job_id, [f"{job_id}.flac"])
        listed = [line.split("\t") for line in ask("jobs", "list", "-n", "2").splitlines()]
        assert [line[0] for line in listed] == [slow, job_id]
        assert (listed[1][1], listed[1][4:]) == ("succeeded", ["0.5 s", "a bell [red]"])
        [told] = json.loads(ask("jobs", "list", "-n", "1", "--status", "succeeded", "--json"))
        assert (told["id"], told["prompt"]) == (job_id, "a  bell\n[red]")
        assert "status\tsucceeded\n" in ask("jobs", "show", job_id)
        assert json.loads(ask("jobs", "show", job_id, "--json"))["id"] == job_id
        assert ask("jobs", "cancel", slow, job_id) == f"{slow}\n{job_id}\n"
        assert ask("jobs", "watch", slow, status=1) == "cancelled\n"
        *_, told = map(json.loads, ask("jobs", "watch", slow, "--json", status=1).splitlines())
        assert (told["id"], told["status"]) == (slow, "cancelled")
        gone = run_here("jobs", "show", job_id, "--json", "--url", service.base_url, cwd=tmp_path)
        assert gone.returncode == 1
        error = json.loads(gone.stderr)["error"]
        assert error["code"] == "job_not_found"
        assert error["request_id"]


def test_pages_of_jobs_follow_each_other(service: Service) -> None:
    with Client(service.base_url) as client:
        made = [client.submit(GenerationRequest(prompt="x", duration=0.1)).id for _ in range(202)]
        listed = [job.id for job in islice(client.jobs(), 202)]

    assert listed == made[::-1]


def test_models_are_listed_with_their_defaults(service: Service, tmp_path: Path) -> None:
    done = run_here("models", service.base_url, cwd=tmp_path)
    as_json = run_here("models", service.base_url, "--json", cwd=tmp_path)

    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["small-sfx (default)", "small-music", "medium"]
    assert rows[2][2:5] == ["380 s", "8", "1"]
    assert [one["id"] for one in json.loads(as_json.stdout)["models"]][1:] == [
        row[0] for row in rows[1:]
    ]
