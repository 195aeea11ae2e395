"""The file of keys: what it may hold, how it is changed, and when that is noticed."""

import hashlib
import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sa_ray.access import Keyring, add_key, read_keys, revoke_key
from sa_ray.contracts.access import ANYBODY
from sa_ray.errors import ConfigurationError
from tests.support.keys import put_keys, write_keys

HASH = "sha256:" + "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_opens_what_its_entry_says(path: Path) -> None:
    limits = {"requests_per_minute": 60, "audio_seconds_per_day": 600, "models": ["medium"]}
    fields = {"scopes": ["generate", "jobs:all"], "limits": limits, "weight": 2, "webhooks": True}
    secret = write_keys(path, {"name": "alice", **fields}, {"name": "bob"})["alice"]

    keyring = Keyring(path)
    found = keyring.caller_with(secret.encode())

    assert found
    assert found == keyring.caller("alice")
    assert (found.name, found.scopes, found.weight) == ("alice", {"generate", "jobs:all"}, 2)
    assert (found.limits.requests_per_minute, found.limits.queued_jobs) == (60, None)
    assert (found.rights.models, found.rights.webhooks) == ({"medium"}, True)
    assert found.may("jobs:own")
    assert not found.may("admin")


def test_what_is_left_out_is_the_least(path: Path) -> None:
    secret = write_keys(path, {"name": "bob"})["bob"]

    found = Keyring(path).caller_with(secret.encode())

    assert found
    assert found.scopes == {"generate", "jobs:own"}
    assert found.rights.priorities == {"normal", "low"}
    assert not found.rights.webhooks


@pytest.mark.parametrize("wrong", ["", "sar_", "alice", HASH, HASH.removeprefix("sha256:")])
def test_another_key_opens_nothing(path: Path, wrong: str) -> None:
    secret = write_keys(path, {"name": "alice"})["alice"]
    keyring = Keyring(path)

    for tried in (wrong, secret[:-1], secret + "x", secret.upper()):
        assert keyring.caller_with(tried.encode()) is None
    # The zeros that stand for no digest are those of no key, also not of a file that has them.
    put_keys(path, [{"name": "zeros", "hash": HASH}])
    assert Keyring(path).caller_with(wrong.encode()) is None


def test_without_a_file_everybody_is_anybody() -> None:
    keyring = Keyring()

    assert not keyring.has_keys
    assert keyring.caller("") is ANYBODY


def test_an_empty_list_lets_nobody_in(path: Path) -> None:
    put_keys(path, [])
    keyring = Keyring(path)

    assert keyring.has_keys
    assert keyring.caller("") is None
    assert keyring.caller_with(b"") is None


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"name": "Alice"}, ["'Alice'", "name"]),
        ({"name": "a", "hash": "0" * 64}, ["'a'", "hash", "sha256:"]),
        ({"name": "a", "hash": []}, ["'a'", "hash"]),
        ({"name": "a", "scopes": ["jobs"]}, ["'a'", "scopes.0", "jobs:own"]),
        ({"name": "a", "scopes": []}, ["'a'", "scopes"]),
        ({"name": "a", "limits": {"requests_per_minute": 0}}, ["limits.requests_per_minute"]),
        ({"name": "a", "limits": {"requests_per_minute": "9"}}, ["limits.requests_per_minute"]),
        ({"name": "a", "limits": {"requests": 9}}, ["limits.requests", "unknown field"]),
        ({"name": "a", "limits": {"models": ["large"]}}, ["limits.models.0", "small-sfx"]),
        ({"name": "a", "limits": {"priorities": ["urgent"]}}, ["limits.priorities.0", "high"]),
        ({"name": "a", "weight": 0}, ["weight", "greater than 0"]),
        ({"name": "a", "webhooks": "on"}, ["webhooks"]),
        ({"name": "a", "scope": ["admin"]}, ["scope", "unknown field"]),
        ({"name": 7}, ["key number 1", "name"]),
        (["a"], ["key number 1"]),
    ],
)
def test_an_entry_that_is_wrong_is_named_with_its_field(
    path: Path, entry: Any, told: list[str]
) -> None:
    entry = {"hash": HASH} | entry if isinstance(entry, dict) else entry
    path.write_text(yaml.safe_dump({"keys": [entry]}))

    with pytest.raises(ConfigurationError) as refused:
        read_keys(path)

    for text in (str(path), *told):
        assert text in refused.value.message


@pytest.mark.parametrize("text", ["", "keys:", "keys: 3", "- a", "keys: [\n", "keys: []\nmore: 1"])
def test_a_file_of_another_shape_is_refused(path: Path, text: str) -> None:
    path.write_text(text)

    with pytest.raises(ConfigurationError, match=r"keys\.yaml"):
        Keyring(path)


def test_a_name_and_a_hash_are_there_once(path: Path) -> None:
    for other in ({"name": "a", "hash": "sha256:" + "1" * 64}, {"name": "b", "hash": HASH}):
        put_keys(path, [{"name": "a", "hash": HASH}, other])
        with pytest.raises(ConfigurationError, match=f"'{other['name']}'"):
            read_keys(path)


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ("  scopes: [generate]\n  scopes: [admin]", "scopes"),
        ("  limits:\n    queued_jobs: 1\n    queued_jobs: 9", "queued_jobs"),
        ("keys: []", "keys"),
    ],
)
def test_a_field_that_is_there_twice_is_named(path: Path, lines: str, field: str) -> None:
    path.write_text(f"keys:\n- name: a\n  hash: {HASH}\n{lines}\n")

    with pytest.raises(ConfigurationError, match=rf"keys\.yaml: {field}: is there twice \(line"):
        read_keys(path)


def test_nobody_has_the_key_that_is_no_text(path: Path) -> None:
    put_keys(path, [{"name": "a", "hash": f"sha256:{hashlib.sha256().hexdigest()}"}])

    with pytest.raises(ConfigurationError, match=r"'a': hash\.0: .*whoever sends no key"):
        read_keys(path)


def test_a_key_that_was_pasted_in_place_of_its_hash_is_not_repeated(path: Path) -> None:
    secret = "sar_" + "s" * 43
    path.write_text(yaml.safe_dump({"keys": [{"name": "a", "hash": secret}]}))

    with pytest.raises(ConfigurationError) as refused:
        read_keys(path)

    assert secret not in refused.value.message


def test_a_changed_file_is_read_anew(path: Path) -> None:
    old = write_keys(path, {"name": "alice"}, {"name": "bob"})
    keyring = Keyring(path)
    new = write_keys(path, {"name": "alice"})["alice"]

    assert keyring.caller_with(old["bob"].encode())
    keyring.look()

    assert keyring.caller_with(old["bob"].encode()) is None
    assert keyring.caller("bob") is None
    assert keyring.caller_with(old["alice"].encode()) is None
    assert keyring.caller_with(new.encode())


def test_a_secret_that_kubernetes_swaps_by_a_link_is_read_anew(tmp_path: Path) -> None:
    for number, name in enumerate(("alice", "bob")):
        (tmp_path / f"..{number}").mkdir()
        write_keys(tmp_path / f"..{number}" / "keys.yaml", {"name": name})
    data, path = tmp_path / "..data", tmp_path / "keys.yaml"
    data.symlink_to("..0")
    path.symlink_to("..data/keys.yaml")
    keyring = Keyring(path)

    swapped = tmp_path / "..data_tmp"
    swapped.symlink_to("..1")
    swapped.replace(data)
    keyring.look()

    assert keyring.caller("alice") is None
    assert keyring.caller("bob")


@pytest.mark.parametrize("broken", ["keys: [", None], ids=["broken", "gone"])
def test_a_file_that_breaks_leaves_the_keys_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture, broken: str | None, propagating: None
) -> None:
    secret = write_keys(path, {"name": "alice"})["alice"]
    keyring = Keyring(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)

    with caplog.at_level(logging.ERROR):
        keyring.look()
        keyring.look()

    assert keyring.caller_with(secret.encode())
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    write_keys(path, {"name": "bob"})
    keyring.look()
    assert keyring.caller_with(secret.encode()) is None


@pytest.fixture
def propagating() -> Any:
    """Let pytest see the log, which ``configure_logging`` of another test may keep to itself."""
    logger = logging.getLogger("sa_ray")
    before, logger.propagate = logger.propagate, True
    yield
    logger.propagate = before


def test_a_key_is_kept_as_its_hash_alone(path: Path) -> None:
    secret = add_key(path, "alice", {"scopes": ["admin"]})

    text = path.read_text()
    assert secret.startswith("sar_")
    assert len(secret) == 47
    assert secret not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (found := Keyring(path).caller_with(secret.encode()))
    assert found.may("admin")


def test_the_mode_of_a_file_that_is_there_stays(path: Path) -> None:
    add_key(path, "alice", {})
    path.chmod(0o640)

    add_key(path, "bob", {})

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_name_is_given_once_and_again_on_request(path: Path) -> None:
    first = add_key(path, "alice", {"weight": 3})
    with pytest.raises(ConfigurationError, match="already"):
        add_key(path, "alice", {})
    second = add_key(path, "alice", {}, again=True)

    keyring = Keyring(path)
    both = [keyring.caller_with(secret.encode()) for secret in (first, second)]
    assert both[0]
    assert both[0] == both[1]
    revoke_key(path, "alice", old=True)
    keyring.look()

    assert keyring.caller_with(first.encode()) is None
    assert (left := keyring.caller_with(second.encode()))
    assert left.weight == 3
    revoke_key(path, "alice")
    keyring.look()
    assert keyring.caller_with(second.encode()) is None
    with pytest.raises(ConfigurationError, match="no key alice"):
        revoke_key(path, "alice")


def test_a_change_that_would_break_the_file_leaves_it(path: Path) -> None:
    add_key(path, "alice", {})
    before = path.read_bytes()

    for name, fields in (("Bob", {}), ("bob", {"weight": -1})):
        with pytest.raises(ConfigurationError):
            add_key(path, name, fields)

    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def test_changes_at_once_are_all_kept(path: Path) -> None:
    names = [f"key-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: add_key(path, name, {}), names))

    assert {key.name for key in read_keys(path)} == set(names)
