"""Settings: names, precedence, and what is refused."""

from itertools import pairwise
from pathlib import Path

import certifi
import pytest

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import MAX_KEY_BYTES, is_sound_key
from sa_ray.errors import ConfigurationError
from sa_ray.settings import Settings, duration_limit, load_settings
from sa_ray.settings.reading import GROUPS
from sa_ray.settings.reference import effective_values, markdown
from sa_ray.settings.values import LONGEST_NAME
from sa_ray.storage import object_key
from tests.support.secret_settings import settings_of

ROOT = Path(__file__).parents[2]

VARIABLES = {name: group.variables(name) for group in GROUPS for name in group.model_fields}
"""Environment variables by setting, the one that wins first."""

DEFAULTS = {name: field.default for group in GROUPS for name, field in group.model_fields.items()}


def value_of(settings: Settings, name: str) -> object:
    return dict(item for group in settings.groups for item in group)[name]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variables in VARIABLES.values():
        for name in variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_old_servers_defaults() -> None:
    settings = load_settings()

    assert settings.models.default_model == "small-sfx"
    assert settings.models.preloaded == ("small-sfx",)
    assert settings.models.device == "auto"
    assert settings.weights.model_half is True
    assert settings.limits.max_duration == 380
    assert settings.limits.max_steps == 50
    assert settings.storage.output_dir == Path("outputs")
    assert settings.storage.storage_bucket is None
    assert settings.storage.storage_backend == "local"
    assert settings.storage.storage_prefix == "stable-audio/jobs"
    assert settings.storage.storage_region == "us-east-1"
    assert settings.storage.presigned_url_expires == 3600


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("STABLE_AUDIO_DEFAULT_MODEL", "medium", "default_model", "medium"),
        ("STABLE_AUDIO_DEFAULT_MODEL", "stabilityai/Stable-Audio-3-Medium", "default_model",
         "medium"),
        ("STABLE_AUDIO_MODEL", "small-music", "default_model", "small-music"),
        ("STABLE_AUDIO_PRELOAD_MODELS", "medium, SMALL-SFX", "preload_models",
         ("medium", "small-sfx")),
        ("STABLE_AUDIO_PRELOAD_MODELS", "", "preload_models", ()),
        ("STABLE_AUDIO_DEVICE", "cpu", "device", "cpu"),
        ("STABLE_AUDIO_DEVICE", "", "device", "auto"),
        ("STABLE_AUDIO_MODEL_HALF", "false", "model_half", False),
        ("STABLE_AUDIO_ENGINE", "procedural", "engine", "procedural"),
        ("STABLE_AUDIO_MAX_DURATION", "60", "max_duration", 60.0),
        ("STABLE_AUDIO_MAX_STEPS", "20", "max_steps", 20),
        ("STABLE_AUDIO_OUTPUT_DIR", "elsewhere", "output_dir", Path("elsewhere")),
        ("STABLE_AUDIO_STORAGE_BUCKET", "b", "storage_bucket", "b"),
        ("AWS_S3_BUCKET", "b", "storage_bucket", "b"),
        ("R2_BUCKET", "b", "storage_bucket", "b"),
        ("R2_BUCKET_NAME", "b", "storage_bucket", "b"),
        ("STABLE_AUDIO_STORAGE_BUCKET", "", "storage_bucket", None),
        ("STABLE_AUDIO_STORAGE_PREFIX", "x/y", "storage_prefix", "x/y"),
        ("STABLE_AUDIO_STORAGE_ENDPOINT_URL", "http://e", "storage_endpoint_url", "http://e"),
        ("AWS_ENDPOINT_URL_S3", "http://e", "storage_endpoint_url", "http://e"),
        ("R2_ENDPOINT_URL", "http://e", "storage_endpoint_url", "http://e"),
        ("AWS_ENDPOINT_URL", "http://e", "storage_endpoint_url", "http://e"),
        ("STABLE_AUDIO_STORAGE_REGION", "auto", "storage_region", "auto"),
        ("AWS_REGION", "eu-west-1", "storage_region", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1", "storage_region", "eu-west-1"),
        ("STABLE_AUDIO_STORAGE_PUBLIC_BASE_URL", "https://cdn", "storage_public_base_url",
         "https://cdn"),
        ("STABLE_AUDIO_PRESIGNED_URL_EXPIRES", "60", "presigned_url_expires", 60),
        ("STABLE_AUDIO_MAX_QUEUED_JOBS", "5", "max_queued_jobs", 5),
        ("STABLE_AUDIO_JOB_MAX_WAIT", "60", "job_max_wait", 60.0),
        ("STABLE_AUDIO_JOBS_URL", "sqlite:///x.db", "jobs_url", "sqlite:///x.db"),
        ("STABLE_AUDIO_PUBLIC_URL", "https://audio.example", "public_url",
         "https://audio.example"),
        ("STABLE_AUDIO_ALLOWED_HOSTS", "Audio.example., *.svc", "allowed_hosts",
         ("audio.example", "*.svc")),
        ("STABLE_AUDIO_ALLOWED_ORIGINS", "https://A.test:443/,http://b.test:81", "allowed_origins",
         ("https://a.test", "http://b.test:81")),
        ("STABLE_AUDIO_COMPATIBLE_APIS", "OpenAI, openai", "compatible_apis", ("openai",)),
    ],
)  # fmt: skip
def test_every_variable_sets_its_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)

    assert value_of(load_settings(), field) == value


FIELDS = [field for field in VARIABLES if field != "preload_models"]


@pytest.mark.parametrize("blank", ["", "  "])
@pytest.mark.parametrize("where", ["environment", "dotenv"])
def test_blank_variables_are_as_good_as_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, blank: str
) -> None:
    defaults = load_settings()
    names = [name for field in FIELDS for name in VARIABLES[field]]
    if where == "dotenv":
        (tmp_path / ".env").write_text("".join(f"{name}='{blank}'\n" for name in names))
    else:
        for name in names:
            monkeypatch.setenv(name, blank)

    assert load_settings() == defaults


@pytest.mark.parametrize(
    ("blank", "fallback", "field"),
    [
        (blank, fallback, field)
        for field in FIELDS
        for blank, fallback in pairwise(VARIABLES[field])
        if "KEY" not in blank  # keys and their secrets go in pairs
    ],
)
def test_a_blank_variable_does_not_hide_its_fallback(
    monkeypatch: pytest.MonkeyPatch, blank: str, fallback: str, field: str
) -> None:
    monkeypatch.setenv(fallback, "https://e" if field == "storage_endpoint_url" else "medium")
    unhidden = load_settings()
    monkeypatch.setenv(blank, "")

    assert value_of(unhidden, field) not in (None, DEFAULTS[field])
    assert load_settings() == unhidden


def test_a_blank_variable_does_not_hide_the_dotenv_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("R2_BUCKET=b\n")
    monkeypatch.setenv("STABLE_AUDIO_STORAGE_BUCKET", "")
    monkeypatch.setenv("R2_BUCKET", "")

    assert load_settings().storage.storage_bucket == "b"


@pytest.mark.parametrize("blank", ["", None])
@pytest.mark.parametrize("field", [field for field in FIELDS if field != "storage_prefix"])
def test_a_blank_argument_sets_the_default_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, field: str, blank: str | None
) -> None:
    default = value_of(load_settings(), field)
    monkeypatch.setenv("STABLE_AUDIO_STORAGE_BUCKET", "b")
    monkeypatch.setenv("STABLE_AUDIO_DEFAULT_MODEL", "medium")
    monkeypatch.setenv("STABLE_AUDIO_MAX_STEPS", "7")

    assert value_of(load_settings({field: blank}), field) == default


def test_an_empty_prefix_puts_objects_at_the_top_of_the_bucket() -> None:
    assert load_settings({"storage_prefix": ""}).storage.storage_prefix == ""


@pytest.mark.parametrize(
    "variable", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "STABLE_AUDIO_PUBLIC_URL"]
)
@pytest.mark.parametrize("around", ["\n", " ", "\r\n", "\t"])
def test_what_was_pasted_with_white_space_is_trimmed(
    monkeypatch: pytest.MonkeyPatch, variable: str, around: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(variable, "https://text")
    clean = load_settings()

    monkeypatch.setenv(variable, f"{around}https://text{around}")

    assert load_settings() == clean


QUOTED = [
    ("STABLE_AUDIO_PUBLIC_URL", "https://audio.example"),
    ("STABLE_AUDIO_STORAGE_PUBLIC_BASE_URL", "https://cdn.example"),
    ("STABLE_AUDIO_STORAGE_ENDPOINT_URL", "https://e"),
    ("STABLE_AUDIO_JOBS_URL", "redis://h:6379/0"),
    ("STABLE_AUDIO_MAX_STEPS", "8"),
    ("STABLE_AUDIO_VARIANTS", '{"medium": {"gpu": 0.5}}'),
    ("STABLE_AUDIO_MODEL_HALF", ""),
    ("HF_TOKEN", "hf_token"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
]


@pytest.mark.parametrize(("variable", "text"), QUOTED)
@pytest.mark.parametrize("pasted", ['"{}"', "'{}'", "'{}'\n", "' {} '"])
def test_what_was_pasted_with_quotes_loses_them(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, pasted: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(variable, text)
    clean = load_settings()

    monkeypatch.setenv(variable, pasted.format(text))

    assert load_settings() == clean


@pytest.mark.parametrize("variable", ["HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("text", ["hush\nhush", "hush hush", "hüsh", "hush\x7f"])
def test_a_key_that_no_request_could_carry_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(variable, text)

    with pytest.raises(ConfigurationError, match=variable) as refused:
        load_settings()

    assert text not in refused.value.message


@pytest.mark.parametrize(
    ("place", "read"),
    [
        ("/models/loras", "/models/loras"),
        ("s3://adapters/", "s3://adapters"),
        ("s3://adapters/a/b/", "s3://adapters/a/b"),
    ],
)
def test_adapters_lie_in_a_folder_or_a_bucket(place: str, read: str) -> None:
    assert load_settings({"lora_dir": place}).storage.lora_dir == read


@pytest.mark.parametrize("place", ["loras", "./loras", "s3:///loras", "s3://b/../c", "http://h/l"])
def test_another_place_for_adapters_is_refused(place: str) -> None:
    with pytest.raises(ConfigurationError, match=r"lora_dir.*s3://bucket/loras"):
        load_settings({"lora_dir": place})


@pytest.mark.parametrize("field", ["public_url", "storage_public_base_url", "storage_endpoint_url"])
@pytest.mark.parametrize(
    "url",
    [
        *("cdn.example.com/audio", "//cdn.example.com", "ftp://h/x", "https://", "https://h:port"),
        *(
            "https://h:0",
            "https://[h",
            "https://h/a b",
            "https://h/a\nb",
            'https://h/"',
            "https://h?",
        ),
        *("https://h/?a=b", "https://h/#a", "https:\\\\h"),
    ],
)
def test_an_address_must_be_one_that_paths_can_follow(field: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        load_settings({field: url})


def test_an_address_for_clients_loses_its_last_slash() -> None:
    assert load_settings({"public_url": "https://a.test/x/"}).edge.public_url == "https://a.test/x"


@pytest.mark.parametrize(
    "prefix", ["a//b", "../a", "a/./b", ".sa-ray-x/a", "a\nb", "a" * 1000, "\u00fc" * 500]
)
def test_a_prefix_under_which_nothing_could_be_stored_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="storage_prefix"):
        load_settings({"storage_prefix": prefix})


def test_under_the_longest_prefix_every_attempt_at_a_job_can_be_stored() -> None:
    storage = load_settings(
        {"storage_bucket": "b", "storage_prefix": "a" * (MAX_KEY_BYTES - LONGEST_NAME - 1)}
    ).storage

    assert is_sound_key(object_key(storage, "0" * 32, 1_000_000_000, "flac"))


@pytest.mark.parametrize("variable", ["STABLE_AUDIO_WEBHOOK_CA_FILE", "SSL_CERT_FILE"])
def test_authorities_of_webhook_receivers_are_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    monkeypatch.setenv(variable, certifi.where())

    authorities = load_settings().webhooks.authorities()

    assert authorities is not None
    assert "BEGIN CERTIFICATE" in authorities


@pytest.mark.parametrize("name", ["empty.pem", "none.pem"])
def test_a_file_without_certificates_is_refused_where_webhooks_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "empty.pem").write_text("nothing here")
    path = str(tmp_path / name)
    assert load_settings({"webhook_ca_file": path}).webhooks.webhook_secret is None

    monkeypatch.setenv("STABLE_AUDIO_WEBHOOK_SECRET", "whsec_" + "A" * 32)

    with pytest.raises(ConfigurationError, match="webhook_ca_file"):
        load_settings({"webhook_ca_file": path})


def test_a_file_of_authorities_is_nothing_to_a_service_without_webhooks(tmp_path: Path) -> None:
    settings = load_settings({"webhook_ca_file": str(tmp_path / "none.pem")})

    assert settings.webhooks.authorities() is None


def test_comments_in_a_file_of_certificates_may_be_in_any_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    path = tmp_path / "authorities.pem"
    path.write_text("# Főtanúsítvány\n" + Path(certifi.where()).read_text())

    assert load_settings({"webhook_ca_file": str(path)}).webhooks.authorities() is not None


@pytest.mark.parametrize("prefix", ["/a/b/", "a/b", "a/b/"])
def test_slashes_around_a_prefix_do_not_count(prefix: str) -> None:
    assert load_settings({"storage_prefix": prefix}).storage.storage_prefix == "a/b"


@pytest.mark.parametrize("field", ["public_url", "storage_public_base_url", "storage_endpoint_url"])
def test_an_address_with_a_password_is_refused_and_not_shown(field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field}.*password") as refused:
        load_settings({field: "https://u:hush@h:9000/x"})

    assert "hush" not in refused.value.message


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_token_is_read_and_never_shown(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "hf_secret")
    settings = load_settings()

    assert settings.weights.hf_token is not None
    assert settings.weights.hf_token.get_secret_value() == "hf_secret"
    assert "hf_secret" not in str(list(effective_values(settings)))
    assert "hf_secret" not in repr(settings)


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"),
    ],
)
def test_storage_credentials(monkeypatch: pytest.MonkeyPatch, key: str, secret: str) -> None:
    monkeypatch.setenv(key, "id")

    with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY"):
        load_settings()

    monkeypatch.setenv(secret, "hush")

    settings = load_settings()

    assert settings.storage.storage_access_key_id is not None
    assert settings.storage.storage_access_key_id.get_secret_value() == "id"
    assert settings.storage.storage_secret_access_key is not None
    assert settings.storage.storage_secret_access_key.get_secret_value() == "hush"


def test_arguments_win_over_environment_over_dotenv_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("STABLE_AUDIO_MAX_STEPS=11\nUNRELATED=1\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert load_settings().limits.max_steps == 11

    monkeypatch.setenv("STABLE_AUDIO_MAX_STEPS", "12")
    assert load_settings().limits.max_steps == 12

    assert load_settings({"max_steps": 13}).limits.max_steps == 13


def test_the_default_models_name_wins_over_its_old_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLE_AUDIO_MODEL", "medium")
    monkeypatch.setenv("STABLE_AUDIO_DEFAULT_MODEL", "small-music")

    assert load_settings().models.default_model == "small-music"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"max_stepz": 1}, "Did you mean max_steps"),
        ({"STABLE_AUDIO_MAX_STEPS": 1}, "Did you mean max_steps"),
        ({"bucket": "b"}, "Did you mean storage_bucket"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_duration": float("nan")}, "max_duration"),
        ({"default_model": "large"}, "'large' is not a model"),
        ({"preload_models": "small-sfx,large"}, "'large' is not a model"),
        ({"device": "tpu"}, "device"),
        ({"variants": {"medium": {"gpus": 1}}}, "variants.medium.gpus"),
        ({"variants": {"large": {"gpu": 1}}}, "variants.large"),
        ({"variants": {"medium": {"repository": "me/mine"}}}, "needs a revision"),
        ({"variants": {"medium": {"repository": "me", "revision": "0" * 40}}}, "repository"),
        ({"variants": {"medium": {"revision": "main"}}}, "variants.medium.revision"),
        ({"variants": {"medium": {"steps": 51}}}, "steps of medium is 51"),
        ({"engine": "stable-audio-3", "device": "cpu", "preload_models": "medium"}, "CUDA"),
    ],
)
def test_what_is_wrong_is_named(args: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_settings(args)


@pytest.mark.parametrize("where", ["environment", "dotenv"])
def test_an_unknown_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    if where == "dotenv":
        (tmp_path / ".env").write_text("STABLE_AUDIO_PRELOAD_MODEL=medium\n")
    else:
        monkeypatch.setenv("STABLE_AUDIO_PRELOAD_MODEL", "medium")

    with pytest.raises(ConfigurationError, match="Did you mean STABLE_AUDIO_PRELOAD_MODELS"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("STABLE_AUDIO_BUCKET", "Did you mean STABLE_AUDIO_STORAGE_BUCKET?"),
        ("STABLE_AUDIO_HF_TOKEN", "Did you mean HF_TOKEN?"),
        ("STABLE_AUDIO_MAX_DURATION_SECONDS", "Did you mean STABLE_AUDIO_MAX_DURATION?"),
        ("STABLE_AUDIO_MODELS", "Did you mean STABLE_AUDIO_DEFAULT_MODEL?"),
        ("stable_audio_max_steps", "Did you mean STABLE_AUDIO_MAX_STEPS?"),
        ("STABLE_AUDIO_COLOUR", "`sa-ray config` lists the settings."),
    ],
)
def test_only_a_setting_that_fits_is_hinted_at(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "1")

    with pytest.raises(ConfigurationError) as refused:
        load_settings()

    assert refused.value.message == f"Unknown setting {variable}. {hint}"


def test_a_malformed_variable_is_named_as_the_user_wrote_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_MAX_STEPS", "many")

    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_MAX_STEPS"):
        load_settings()


def test_malformed_json_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLE_AUDIO_VARIANTS", "{medium: 1}")

    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_VARIANTS"):
        load_settings()


def test_variant_overrides_lie_over_the_catalogue() -> None:
    settings = load_settings({"variants": {"medium": {"gpu": 0.5, "max_replicas": 8}}})

    assert settings.models.spec("medium") == CATALOGUE["medium"].model_copy(
        update={"gpu": 0.5, "max_replicas": 8}
    )
    assert settings.models.spec("small-sfx") == CATALOGUE["small-sfx"]


def test_duration_limits_are_the_lower_of_model_and_api() -> None:
    settings = load_settings({"max_duration": 200})

    assert duration_limit(settings.models, settings.limits, "small-sfx") == 120
    assert duration_limit(settings.models, settings.limits, "medium") == 200


def test_the_configuration_page_is_current() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()

    assert page == markdown(), "run `just generate`"


@pytest.mark.parametrize("secret", ["plain", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64!"])
def test_a_weak_or_malformed_webhook_secret_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_WEBHOOK_SECRET", secret)

    with pytest.raises(ConfigurationError, match="STABLE_AUDIO_WEBHOOK_SECRET") as refused:
        load_settings()

    assert f"{secret!r}" not in refused.value.message


def test_two_webhook_secrets_sign_while_receivers_change_over() -> None:
    new, old = "whsec_" + "A" * 32, "whsec_" + "B" * 32

    assert settings_of({"webhook_secret": f" {new} , {old}"}).webhooks.signing_secrets == (
        new,
        old,
    )
    assert settings_of({"webhook_secret": new}).webhooks.signing_secrets == (new,)
    assert load_settings().webhooks.signing_secrets == ()
    for wrong in (f"{new},{old},{new}", f"{new},", f"{new},whsec_"):
        with pytest.raises(ConfigurationError, match="STABLE_AUDIO_WEBHOOK_SECRET: ") as refused:
            settings_of({"webhook_secret": wrong})
        assert new not in refused.value.message


def test_a_webhook_secret_is_kept_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLE_AUDIO_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    assert "A" * 32 not in repr(load_settings())
