"""Secrets: each process reads its own, from a variable or from a file that one names."""

import pickle
import platform
from pathlib import Path

import pytest
from pydantic import SecretStr

from sa_ray.errors import ConfigurationError
from sa_ray.settings import JobSettings, StorageSettings, WeightSettings, load_settings
from sa_ray.settings.reading import GROUPS, secret_variables
from sa_ray.settings.reference import effective_values
from tests.support.secret_settings import VARIABLES

TEXTS = {"webhook_secret": "whsec_" + "A" * 32}
"""Where not any text will do."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for group in GROUPS:
        for name in group.model_fields:
            for variable in group.variables(name):
                monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    # So that keys can be set one at a time.
    monkeypatch.setenv("R2_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("STABLE_AUDIO_STORAGE_BUCKET", "audio")
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", "redis://h:6379/0")


def revealed(name: str) -> str | None:
    values = dict(item for group in load_settings().groups for item in group)
    secret = values[name]
    return secret.get_secret_value() if isinstance(secret, SecretStr) else None


@pytest.mark.parametrize("name", VARIABLES)
def test_a_secret_may_be_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    text = TEXTS.get(name, "hush-hush")
    path = tmp_path / "secret"
    path.write_text(f"{text}\n")
    monkeypatch.setenv(f"{VARIABLES[name]}_FILE", str(path))

    assert revealed(name) == text


@pytest.mark.parametrize("variable", secret_variables())
def test_a_secret_both_ways_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, "hush")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))

    with pytest.raises(ConfigurationError, match=f"{variable} and {variable}_FILE are both set"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b" \n", "is empty"), (b"\xff", "not text")],
)
def test_a_file_that_holds_no_secret_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("HF_TOKEN_FILE", str(path))

    with pytest.raises(ConfigurationError, match=reason) as refused:
        load_settings()

    assert f"HF_TOKEN_FILE names {path}" in refused.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((name, "hush") for name in VARIABLES),
        ("jobs_url", "postgresql://u:hush@h/db"),
        ("jobs_url", "redis://:hush@h:6379/0"),
        ("jobs_url", "postgresql://h/db?password=hush"),
    ],
)
def test_a_secret_among_the_arguments_is_refused_and_not_shown(key: str, value: str) -> None:
    variable = VARIABLES.get(key, "STABLE_AUDIO_JOBS_URL")

    with pytest.raises(ConfigurationError, match=f"{variable} or {variable}_FILE") as refused:
        load_settings({key: value})

    assert key in refused.value.message
    assert "hush" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "plain", "password"),
    [
        ("postgresql://u:hush@h:5432/db", "postgresql://u@h:5432/db", "hush"),
        ("postgresql://u@corp:h/u?s#h@h/db?a=b%20c", "postgresql://u@corp@h/db?a=b%20c", "h/u?s#h"),
        ("postgresql://u@h/db?password=h%40h&a=b+c", "postgresql://u@h/db?a=b+c", "h@h"),
        ("postgresql://u@h/db", "postgresql://u@h/db", None),
        ("redis://:h%2Fh@h:6379/0", "redis://h:6379/0", "h/h"),
        ("rediss://u:a@b@h/0?db=1", "rediss://u@h/0?db=1", "a@b"),
        ("sqlite:////data/a:b@c/jobs.db", "sqlite:////data/a:b@c/jobs.db", None),
    ],
)
def test_the_password_of_a_jobs_url_is_kept_apart(
    monkeypatch: pytest.MonkeyPatch, url: str, plain: str, password: str | None
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", url)

    settings = load_settings()

    assert settings.jobs.jobs_url == plain
    assert revealed("jobs_password") == password
    shown = {name: value for name, value, _ in effective_values(settings)}
    assert shown["jobs_url"] == plain
    assert shown["jobs_password"] == ("None" if password is None else "********")


@pytest.mark.parametrize(
    "url", ["redis://:hu/sh@h:6379/0", "postgresql://u:x@h/db?sslpassword=hush"]
)
def test_a_password_that_cannot_be_told_from_the_rest_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", url)

    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_JOBS_PASSWORD") as refused:
        load_settings()

    assert "sh" not in refused.value.message.replace("shown", "")


def test_a_jobs_url_with_a_password_and_another_beside_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", "redis://:one@h:6379/0")
    monkeypatch.setenv("STABLE_AUDIO_JOBS_PASSWORD", "two")

    with pytest.raises(ConfigurationError, match="leave one out"):
        load_settings()


def travelled(monkeypatch: pytest.MonkeyPatch, **variables: str) -> StorageSettings:
    """Storage settings as they arrive on a node where only ``variables`` are set."""
    sealed = pickle.loads(pickle.dumps(load_settings().storage.sealed()))  # noqa: S301 - our own
    for name in ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert isinstance(sealed, StorageSettings)
    return sealed


def test_each_process_finds_its_own_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text("first")
    sealed = travelled(monkeypatch, AWS_ACCESS_KEY_ID="own", AWS_SECRET_ACCESS_KEY_FILE=str(path))
    assert sealed.storage_bucket == "audio"

    first = sealed.opened()
    path.write_text("changed")
    second = sealed.opened()

    for opened, secret in ((first, "first"), (second, "changed")):
        assert opened.storage_access_key_id == SecretStr("own")
        assert opened.storage_secret_access_key == SecretStr(secret)


def test_a_bucket_of_adapters_keeps_the_keys_of_its_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STABLE_AUDIO_STORAGE_BUCKET")
    monkeypatch.setenv("STABLE_AUDIO_LORA_DIR", "s3://adapters/loras")
    sealed = travelled(monkeypatch, AWS_ACCESS_KEY_ID="own", AWS_SECRET_ACCESS_KEY="hush")

    assert (sealed.storage_backend, sealed.lora_bucket) == ("local", "adapters")
    assert sealed.opened().storage_access_key_id == SecretStr("own")


def test_a_secret_is_found_in_the_dotenv_file_of_a_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sealed = travelled(monkeypatch)
    (tmp_path / ".env").write_text("R2_ACCESS_KEY_ID=own\nR2_SECRET_ACCESS_KEY=hush\n")

    assert sealed.opened().storage_access_key_id == SecretStr("own")


def test_a_process_whose_working_directory_is_gone_finds_what_is_in_its_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sealed = travelled(monkeypatch, R2_ACCESS_KEY_ID="own", R2_SECRET_ACCESS_KEY="hush")
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    assert sealed.opened().storage_access_key_id == SecretStr("own")


def test_a_dotenv_file_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sealed = travelled(monkeypatch)
    (tmp_path / ".env").write_bytes(b"R2_SECRET_ACCESS_KEY=\xff")

    with pytest.raises(ConfigurationError, match=r"\.env cannot be read \(it is not text") as told:
        sealed.opened()

    assert platform.node() in told.value.message


def test_a_node_without_the_secret_is_named_with_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        travelled(monkeypatch).opened()

    for named in (platform.node(), "AWS_ACCESS_KEY_ID is missing", "AWS_ACCESS_KEY_ID_FILE"):
        assert named in refused.value.message
    assert refused.value.param == "AWS_ACCESS_KEY_ID"


def test_a_sealed_secret_is_known_to_be_set_and_cannot_be_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    sealed = load_settings().weights.sealed()

    assert isinstance(sealed, WeightSettings)
    assert sealed.hf_token is not None
    with pytest.raises(RuntimeError, match="opened"):
        sealed.hf_token.get_secret_value()
    monkeypatch.delenv("HF_TOKEN")
    assert load_settings().weights.sealed().opened().hf_token is None


def test_keys_for_no_bucket_need_not_be_on_any_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STABLE_AUDIO_STORAGE_BUCKET")

    assert travelled(monkeypatch).opened().storage_access_key_id is None


@pytest.mark.parametrize(
    "own_url",
    ["sqlite:///other.db", "postgresql://u@other/db", "", "redis://:not-this-one@other:6379/0"],
)
def test_a_password_beside_the_url_counts_for_a_url_among_the_arguments(
    monkeypatch: pytest.MonkeyPatch, own_url: str
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", own_url)
    monkeypatch.setenv("STABLE_AUDIO_JOBS_PASSWORD", "hush")
    sealed = load_settings({"jobs_url": "redis://h:6379/0"}).jobs.sealed()

    assert sealed.jobs_url == "redis://h:6379/0"
    assert sealed.opened().jobs_password == SecretStr("hush")
    assert load_settings({"jobs_url": "sqlite:///own.db"}).jobs.sealed().jobs_password is None


def test_the_password_of_another_store_is_not_sent_to_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", "postgresql://u:hush@one/db")
    sealed = load_settings().jobs.sealed()
    assert isinstance(sealed, JobSettings)
    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", "postgresql://u:changed@one/db")
    assert sealed.opened().jobs_password == SecretStr("changed")

    monkeypatch.setenv("STABLE_AUDIO_JOBS_URL", "postgresql://u:hush@two/db")

    with pytest.raises(ConfigurationError, match="another store") as refused:
        sealed.opened()
    assert "hush" not in refused.value.message
