"""``sa-ray keys``: who may use the service."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sa_ray.access import Key, add_key, read_keys, revoke_key
from sa_ray.cli.console import AsJson, print_result, print_table, say
from sa_ray.errors import ConfigurationError
from sa_ray.settings import load_settings

COLUMNS = ("name", "keys", "scopes", "limits", "weight", "note")

keys = typer.Typer(help="The keys of those who may use the service.", no_args_is_help=True)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who holds it: what they make belongs to NAME.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="generate, jobs:own, jobs:all or admin; may be repeated. "
            "Default: generate and jobs:own."
        ),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests.")] = None,
    concurrent_requests: Annotated[int | None, typer.Option(help="Most at once.")] = None,
    queued_jobs: Annotated[int | None, typer.Option(help="Most that wait.")] = None,
    audio_seconds_per_day: Annotated[
        float | None, typer.Option(help="Most seconds of audio in a day of UTC.")
    ] = None,
    priority: Annotated[
        list[str] | None,
        typer.Option(help="A priority its jobs may have; may be repeated. Default: normal, low."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model it may ask for; may be repeated. Default: all."),
    ] = None,
    webhooks: Annotated[
        bool, typer.Option("--webhooks", help="Its jobs may name a webhook_url.")
    ] = False,
    weight: Annotated[
        float | None, typer.Option(help="Share of the queue, relative to others. Default: 1.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="For whoever reads the file.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Another key of a NAME that is there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is shown once, and kept as a hash.

    It goes into the file that STABLE_AUDIO_API_KEYS_FILE names, of which services take notice.
    """
    limits = {
        "requests_per_minute": requests_per_minute,
        "concurrent_requests": concurrent_requests,
        "queued_jobs": queued_jobs,
        "audio_seconds_per_day": audio_seconds_per_day,
        "priorities": priority,
        "models": model,
    }
    fields = {
        "scopes": scope,
        "limits": _given(limits) or None,
        "webhooks": webhooks or None,
        "weight": weight,
        "note": note,
    }
    if again and _given(fields):
        raise typer.BadParameter(f"--again leaves all else of {name} as it is: give it alone.")
    key = add_key(_file(), name, _given(fields), again=again)
    print_result(as_json, {"name": name, "key": key}, lambda: typer.echo(key))


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, without their hashes."""
    found = read_keys(_file())
    print_result(
        as_json,
        [_shown(key) for key in found],
        lambda: print_table(COLUMNS, [_row(key) for key in found]),
    )


def _row(key: Key) -> tuple[str, ...]:
    shown = _shown(key)
    limits = ", ".join(f"{name} {_text(value)}" for name, value in shown["limits"].items())
    rights = f"{limits}, webhooks" if key.webhooks else limits
    scopes = " ".join(key.scopes)
    return key.name, str(len(key.hash)), scopes, rights, f"{key.weight:g}", key.note or ""


@keys.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    old: Annotated[
        bool, typer.Option("--old", help="Only its keys before the newest; NAME stays.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a name and its keys out of the file. Services refuse them within seconds.

    Its jobs stay, for keys with the scope jobs:all, and for a new key of the same name.
    """
    revoke_key(_file(), name, old=old)
    print_result(
        as_json,
        {"name": name, "revoked": "old" if old else "all"},
        lambda: say(f"{name}: {'the newest key is left' if old else 'revoked'}"),
    )


def _file() -> Path:
    path = load_settings().access.api_keys_file
    if path is None:
        raise ConfigurationError(
            "STABLE_AUDIO_API_KEYS_FILE is not set: name the file of the keys, the same for the "
            "service and here."
        )
    return path.expanduser()


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _shown(key: Key) -> dict[str, Any]:
    shown = key.model_dump(exclude={"hash"}) | {"keys": len(key.hash)}
    return shown | {"limits": _given(cast(dict[str, Any], shown["limits"]))}


def _text(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
