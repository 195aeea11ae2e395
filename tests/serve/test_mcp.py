"""``sa-ray mcp`` as an assistant's program uses it: over standard input and output."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import soundfile
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, TextContent

from sa_ray import client as http
from sa_ray.mcp import Folder, build_server
from tests.support.commands import BIN
from tests.support.service import SLOW, Service

RAIN = {"prompt": "rain on a tin roof", "duration": 0.5}


@asynccontextmanager
async def server(service: Service, folder: Path, *options: str) -> AsyncIterator[Client]:
    """The server, begun in ``folder``, with a client of the protocol."""
    parameters = StdioServerParameters(
        command=str(BIN / "sa-ray"),
        args=["mcp", "--url", service.base_url, *options],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("STABLE_AUDIO_")},
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


def told(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result
    assert result.structured_content is not None
    return result.structured_content


def refusal(result: CallToolResult) -> str:
    assert result.is_error
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_an_assistant_makes_edits_and_lists_sounds(service: Service, tmp_path: Path) -> None:
    heard: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))

    async with server(service, tmp_path) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        made = told(
            await client.call_tool("generate", {**RAIN, "count": 2}, progress_callback=hear)
        )
        again = told(await client.call_tool("generate", {**RAIN, "seed": made["files"][0]["seed"]}))
        edited = told(
            await client.call_tool(
                "edit",
                {
                    "file": "rain-on-a-tin-roof.wav",
                    "change": "inpaint",
                    "regions": [{"start": 0.1, "end": 0.3}],
                    "prompt": "a bell",
                    "name": "../../../Bell no. 1",
                    "format": "flac",
                },
            )
        )
        models = told(await client.call_tool("list", {"what": "models"}))
        presets = told(await client.call_tool("list", {"what": "presets"}))
        jobs = told(await client.call_tool("list", {"what": "jobs", "limit": 3}))

    assert set(tools) == {"generate", "edit", "list"}
    assert all(
        "description" in field
        for tool in tools.values()
        for field in tool.input_schema["properties"].values()
    )
    first, second, third = (
        tmp_path / name
        for name in (
            "rain-on-a-tin-roof.wav", "rain-on-a-tin-roof-2.wav", "rain-on-a-tin-roof-3.wav"
        )
    )  # fmt: skip
    assert [file["path"] for file in made["files"]] == [str(first), str(second)]
    assert "not by Stable Audio 3" in made["note"]
    assert heard == sorted(set(heard))
    assert heard[-1] == (100, 100)
    # Nothing is overwritten, and the same seed makes the same.
    assert [file["path"] for file in again["files"]] == [str(third)]
    assert third.read_bytes() == first.read_bytes() != second.read_bytes()
    # A name leads nowhere else.
    assert [file["path"] for file in edited["files"]] == [str(tmp_path / "bell-no-1.flac")]
    assert soundfile.info(tmp_path / "bell-no-1.flac").duration == 0.5
    assert set(names(tmp_path)) == {
        first.name, second.name, third.name, "bell-no-1.flac"
    }  # fmt: skip
    assert models["default"] == "small-sfx"
    assert presets["presets"]
    assert [job["id"] for job in jobs["jobs"]] == [
        edited["job_id"], again["job_id"], made["job_id"]
    ]  # fmt: skip


async def test_what_cannot_be_done_is_told_with_what_to_do(
    service: Service, tmp_path: Path
) -> None:
    url = service.base_url
    sounds, other = tmp_path / "sounds", tmp_path / "other"
    other.mkdir()
    (other / "in.wav").write_bytes(service.generate(duration=0.5).content)
    (tmp_path / "secret.wav").write_bytes((other / "in.wav").read_bytes())
    vary = {"change": "vary", "prompt": "a bell"}

    with http.Client(url) as asking:
        tools = build_server(asking, url, Folder(sounds, [other]))
        async with Client(tools) as client:
            (sounds / "link.wav").symlink_to(tmp_path / "secret.wav")
            for arguments, hint in [
                ({"file": "../secret.wav", **vary}, "--read"),
                ({"file": "link.wav", **vary}, "--read"),
                ({"file": "none.wav", **vary}, f"no file {sounds}/none.wav"),
                (
                    {"file": "../other/in.wav", **vary, "regions": [{"start": 0, "end": 1}]},
                    "inpaint",
                ),
                ({"file": "../other/in.wav", **vary, "duration": 9999}, "duration is 9999"),
            ]:
                assert hint in refusal(await client.call_tool("edit", arguments))
            made = told(await client.call_tool("edit", {"file": str(other / "in.wav"), **vary}))

    assert set(names(sounds)) == {"link.wav", "a-bell.wav"}
    assert made["files"][0]["path"] == str(sounds / "a-bell.wav")


async def test_a_call_that_is_given_up_cancels_its_job(service: Service, tmp_path: Path) -> None:
    begun = anyio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        begun.set()

    async with server(service, tmp_path) as client:

        async def call() -> None:
            slow = {name: SLOW[name] for name in ("prompt", "model", "duration", "steps")}
            await client.call_tool("generate", slow, progress_callback=hear)

        async with anyio.create_task_group() as calls:
            calls.start_soon(call)
            with anyio.fail_after(90):
                await begun.wait()
            calls.cancel_scope.cancel()
        [newest] = service.http.get("/jobs?limit=1").json()["jobs"]
        # In a thread, so that the client goes on.
        ended = await anyio.to_thread.run_sync(service.wait_for, newest["id"])

    assert ended["status"] == "cancelled"
    assert names(tmp_path) == []
