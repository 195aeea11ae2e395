"""The tools: ``generate``, ``edit`` and ``list``."""

from collections.abc import Mapping
from inspect import getdoc
from itertools import islice
from typing import Annotated, Any, Final, Literal

import anyio.from_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from sa_ray import __version__
from sa_ray.client import Client
from sa_ray.contracts import AudioFormat, JobView
from sa_ray.contracts.edit_requests import RegionRequest
from sa_ray.mcp.failures import told
from sa_ray.mcp.folder import Folder
from sa_ray.mcp.making import MadeFiles, make

INSTRUCTIONS = """Makes and edits sounds and music with Stable Audio 3. Files are written into one
folder, never over others; answers have their paths. `list` tells which models there are, and has
presets to begin with."""

WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Change = Literal["vary", "inpaint", "extend"]

SOURCES: Final[Mapping[Change, str]] = {
    "vary": "init_audio",
    "inpaint": "inpaint_audio",
    "extend": "continue_audio",
}
"""Fields of a request that name what is edited."""

OPTIONS: Final[Mapping[str, Change]] = {
    "strength": "vary",
    "regions": "inpaint",
    "intro": "extend",
}

Prompt = Annotated[str, Field(description="What to hear: source, place, character, tempo.")]
Model = Annotated[
    str | None,
    Field(
        description="small-sfx (sound effects), small-music or medium (both, longer and better). "
        "Left out: the default of the service."
    ),
]
Seconds = Annotated[
    float | None, Field(gt=0, description="Length of the clip. Left out: 7, or as what is edited.")
]
Count = Annotated[int, Field(ge=1, le=8, description="Takes, each a file with a seed of its own.")]
Seed = Annotated[int | None, Field(ge=0, description="To make the same again. Left out: drawn.")]
Name = Annotated[str | None, Field(description="Of the file. Left out: made of the prompt.")]
Format = Annotated[AudioFormat, Field(description="Of the file.")]


def build_server(client: Client, url: str, folder: Folder) -> MCPServer[Any]:
    """Return the server for the service of ``client``, which is at ``url``."""
    tools = _Tools(client, url, folder)
    server: MCPServer[Any] = MCPServer(
        "sa-ray",
        title="Stable Audio 3",
        version=__version__,
        instructions=INSTRUCTIONS,
        log_level="WARNING",
    )
    for name, tool, kind in (
        ("generate", tools.generate, WRITES),
        ("edit", tools.edit, WRITES),
        ("list", tools.list_, READS),
    ):
        server.add_tool(tool, name=name, description=getdoc(tool), annotations=kind)
    return server


class _Tools:
    """Run in threads of the server, one for each call."""

    def __init__(self, client: Client, url: str, folder: Folder) -> None:
        self._client = client
        self._url = url
        self._folder = folder

    def generate(
        self,
        context: Context[Any, Any],
        prompt: Prompt,
        duration: Seconds = None,
        model: Model = None,
        count: Count = 1,
        seed: Seed = None,
        negative_prompt: Annotated[str | None, Field(description="What to keep out.")] = None,
        steps: Annotated[int | None, Field(ge=1, description="Sampling steps.")] = None,
        loop: Annotated[bool, Field(description="The end goes over into the start.")] = False,
        format: Format = "wav",  # noqa: A002 - as assistants see it
        name: Name = None,
    ) -> MadeFiles:
        """Make sounds or music from words, and write them into the folder.

        Takes seconds to minutes. Returns paths, seeds and lengths.
        """
        fields = {
            "prompt": prompt,
            "duration": duration,
            "model": model,
            "n": count,
            "seed": seed,
            "negative_prompt": negative_prompt,
            "steps": steps,
            "loop": loop or None,
            "format": format,
        }
        with told(self._url):
            return make(self._client, self._folder, name, fields, _report(context))

    def edit(
        self,
        context: Context[Any, Any],
        file: Annotated[str, Field(description="Path of the sound; it stays as it is.")],
        change: Annotated[
            Change,
            Field(
                description="vary: the whole of it becomes what the prompt says, by `strength`. "
                "inpaint: only `regions` are made anew. extend: it goes on to `duration`, with "
                "`intro` seconds of new sound before it."
            ),
        ],
        prompt: Prompt,
        strength: Annotated[
            float | None,
            Field(ge=0, le=1, description="Of vary: 0 keeps it, 1 keeps nothing. Left out: 0.4."),
        ] = None,
        regions: Annotated[
            list[RegionRequest] | None, Field(description="Of inpaint, in seconds.")
        ] = None,
        intro: Annotated[float | None, Field(ge=0, description="Of extend, seconds.")] = None,
        duration: Seconds = None,
        model: Model = None,
        count: Count = 1,
        seed: Seed = None,
        format: Format = "wav",  # noqa: A002 - as assistants see it
        name: Name = None,
    ) -> MadeFiles:
        """Make a new file from a sound on disk: vary it, make parts of it anew, or extend it.

        What is not to change comes back sample for sample. Returns as `generate` does.
        """
        _refuse_others(change, strength=strength, regions=regions, intro=intro)
        fields = {
            "prompt": prompt,
            "init_noise_level": strength,
            "regions": regions,
            "intro": intro,
            "duration": duration,
            "model": model,
            "n": count,
            "seed": seed,
            "format": format,
        }
        with told(self._url):
            fields[SOURCES[change]] = self._client.upload(self._folder.find(file)).id
            return make(self._client, self._folder, name, fields, _report(context))

    def list_(
        self,
        what: Annotated[
            Literal["models", "presets", "adapters", "jobs"],
            Field(
                description="models: which there are, how long clips may be, how each fares. "
                "presets: prompts and lengths to begin with. adapters: LoRA of the models. jobs: "
                "the newest, with prompts, seeds and how far they are."
            ),
        ],
        limit: Annotated[int, Field(ge=1, le=200, description="Most jobs.")] = 20,
    ) -> dict[str, Any]:
        """List what the service has."""
        with told(self._url):
            match what:
                case "models":
                    return self._client.models().model_dump(mode="json")
                case "presets":
                    return self._client.presets().model_dump(mode="json")
                case "adapters":
                    return self._client.loras().model_dump(mode="json")
                case "jobs":
                    found = islice(self._client.jobs(prompts=True), limit)
                    return {"jobs": [job.model_dump(mode="json") for job in found]}


def _refuse_others(change: Change, **given: object) -> None:
    for name, of in OPTIONS.items():
        if given[name] is not None and change != of:
            raise ToolError(
                f"{name} belongs to the change {of!r}, not to {change!r}: leave it out."
            )


def _report(context: Context[Any, Any]) -> Any:
    """Return what tells the assistant's program how far a job is.

    Raises in its place the end of a call that is cancelled.
    """
    reached = -1.0

    def report(job: JobView) -> None:
        nonlocal reached
        anyio.from_thread.check_cancelled()
        if job.progress > reached:  # the protocol has it grow
            reached = job.progress
            anyio.from_thread.run(context.report_progress, job.progress, 100, job.status)

    return report
