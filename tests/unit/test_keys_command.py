"""``sa-ray keys``: the file that the setting names, changed and listed."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sa_ray.access import Keyring
from sa_ray.cli.commands import app
from sa_ray.contracts.access import ANYBODY
from sa_ray.errors import SaRayError
from sa_ray.settings import load_settings


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    monkeypatch.setenv("STABLE_AUDIO_API_KEYS_FILE", str(path))
    monkeypatch.delenv("STABLE_AUDIO_ALLOW_ANONYMOUS", raising=False)
    monkeypatch.chdir(tmp_path)
    return path


def keys(*arguments: str, fails: bool = False) -> Any:
    result = CliRunner().invoke(app, ["keys", *arguments])
    assert (result.exit_code != 0) == fails, result.output
    return result


def test_a_key_is_printed_alone_and_works(path: Path) -> None:
    options = ("--scope", "generate", "--queued-jobs", "5", "--priority", "high", "--webhooks")

    printed = keys("create", "alice", *options).stdout

    assert printed == printed.strip() + "\n"
    found = Keyring(path).caller_with(printed.strip().encode())
    assert found
    assert (found.name, found.scopes, found.limits.queued_jobs) == ("alice", {"generate"}, 5)
    assert (found.rights.priorities, found.rights.webhooks) == ({"high"}, True)


def test_the_list_has_names_and_no_hashes(path: Path) -> None:
    secret = keys("create", "alice", "--note", "[red] studio").stdout.strip()
    keys("create", "alice", "--again")

    [listed] = json.loads(keys("list", "--json").stdout)
    table = keys("list").stdout

    assert (listed["name"], listed["keys"]) == ("alice", 2)
    assert "alice" in table
    assert "[red]" in table
    for text in (table, json.dumps(listed)):
        assert "sha256" not in text
        assert secret not in text


def test_a_revoked_name_is_gone(path: Path) -> None:
    secret = keys("create", "alice").stdout.strip()
    keys("create", "bob")

    keys("revoke", "alice")

    assert Keyring(path).caller_with(secret.encode()) is None
    assert [key["name"] for key in json.loads(keys("list", "--json").stdout)] == ["bob"]


def test_what_is_wrong_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys("create", "alice")

    for arguments in (
        ("create", "alice"),
        ("create", "Alice"),
        ("create", "bob", "--scope", "everything"),
        ("create", "bob", "--model", "large"),
        ("create", "alice", "--again", "--weight", "2"),
        ("revoke", "bob"),
    ):
        keys(*arguments, fails=True)
    assert [key["name"] for key in json.loads(keys("list", "--json").stdout)] == ["alice"]
    monkeypatch.delenv("STABLE_AUDIO_API_KEYS_FILE")
    refused = keys("list", fails=True).exception
    assert isinstance(refused, SaRayError)
    assert "STABLE_AUDIO_API_KEYS_FILE" in refused.message


def test_keys_and_no_keys_contradict_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_ALLOW_ANONYMOUS", "true")

    with pytest.raises(SaRayError, match="contradict"):
        load_settings()
    assert load_settings({"api_keys_file": ""}).access.allow_anonymous
    assert Keyring().caller("") is ANYBODY


def test_the_key_of_a_client_on_the_same_machine_is_no_setting(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_API_KEY", "sar_x")

    assert load_settings().access.api_keys_file == path
