"""Provenance: the tags of a file that say what made it, and how to make it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

import soundfile as sf
from pydantic import ValidationError

from sa_ray.audio.encoding import MAX_TAG_BYTES
from sa_ray.contracts import (
    MIN_REGION,
    EditFields,
    EngineName,
    GenerationRequest,
    LoraFields,
    ResolvedRequest,
)
from sa_ray.errors import InvalidRequestError

_REQUEST: Final = " request="
_ADAPTERS: Final = " loras="
_ASKED_OTHERWISE: Final = {*EditFields.model_fields, *LoraFields.model_fields}
_TINY: Final = 1e-9
_ESCAPED: Final = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""What cannot stand in a tag, as JSON writes it."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a file says of itself: its engine, and the request that makes it again."""

    engine: EngineName
    request: GenerationRequest
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Digest of each adapter that it was made with, by name."""


def provenance_tags(request: ResolvedRequest, engine: EngineName, seed: int) -> dict[str, str]:
    """Return the tags of a clip that ``engine`` made of ``request`` with ``seed``.

    The comment holds the whole request as JSON, if it is short enough for every format: prompts of
    more than some 1,500 bytes in UTF-8 are not. Of an edit it names the upload, whose id is the
    digest of the file that was sent.
    """
    comment = (
        f"engine={engine} model={request.model} seed={seed} steps={request.steps} "
        f"cfg_scale={request.cfg_scale:g}"
    )
    if request.loras:
        comment += _ADAPTERS + ",".join(f"{one.name}@{one.sha256}" for one in request.loras)
    # With the seed that it was made by, no second attempt is wanted.
    found = request.model_copy(update={"seed": seed, "retry_bad": False})
    made = found.model_dump(exclude_defaults=True, exclude=_ASKED_OTHERWISE)
    made |= _edit_asked(request)
    if request.loras:
        made["loras"] = [one.model_dump(exclude={"sha256"}) for one in request.loras]
    text = json.dumps(made, separators=(",", ":"), ensure_ascii=False)
    whole = f"{comment}{_REQUEST}{text.translate(_ESCAPED)}"
    return {
        "title": request.prompt,
        "software": f"sa-ray ({engine} engine)",
        "comment": whole if len(whole.encode()) <= MAX_TAG_BYTES else comment,
    }


def _edit_asked(request: ResolvedRequest) -> dict[str, object]:
    """Return the fields of a request that ask for the edit and the loop of ``request``."""
    asked: dict[str, object] = {"loop": True} if request.loop else {}
    source = request.source
    if source is None:
        return asked
    if not request.regions:
        level = request.init_noise_level
        return asked | {"init_audio": source.upload_id, "init_noise_level": level}
    # Its default is another than that of a clip without regions.
    asked["normalize"] = request.normalize
    if source.at or request.duration >= source.seconds + MIN_REGION - _TINY:
        return asked | {"continue_audio": source.upload_id, "intro": source.at}
    regions = [region.model_dump() for region in request.regions]
    return asked | {"inpaint_audio": source.upload_id, "regions": regions}


def provenance_of(file: Path) -> Provenance:
    """Read what ``provenance_tags`` has put into a file.

    Raises ``InvalidRequestError`` if it holds no such tags, ``OSError`` if it cannot be read.
    """
    try:
        with file.open("rb") as opened, sf.SoundFile(opened) as sound:
            comment = sound.comment
    except (sf.LibsndfileError, TypeError):  # soundfile wants to be told more of a ``.raw``
        raise InvalidRequestError(f"{file} is not an audio file that can be read.") from None
    said, marked, request = comment.partition(_REQUEST)
    engine = said.partition(" ")[0].removeprefix("engine=")
    if engine not in get_args(EngineName):
        raise InvalidRequestError(f"{file} does not say that this service made it.")
    if not marked:
        raise InvalidRequestError(
            f"{file} does not hold its whole request: the prompt, or the list of regions, is too "
            "long for its tags, or the release that made it did not write it."
        )
    _, _, adapters = said.partition(_ADAPTERS)
    pairs = (one.partition("@") for one in adapters.split(",") if one)
    digests = {name: digest for name, _, digest in pairs}
    try:
        return Provenance(engine, GenerationRequest.model_validate_json(request), digests)
    except ValidationError:
        raise InvalidRequestError(
            f"The request that {file} holds is none of this release."
        ) from None
