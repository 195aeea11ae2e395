"""Settings of jobs: their store, queue limit, retention and webhooks."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import AliasChoices, Field, SecretStr, model_validator

from sa_ray.errors import ConfigurationError
from sa_ray.settings.group import SettingsGroup
from sa_ray.settings.values import WebhookSecret, holds_password, without_password


class JobSettings(SettingsGroup):
    """Store of job state, limit of the queue, and retention of ended jobs.

    A password in ``jobs_url`` becomes ``jobs_password``.
    """

    may_hold_secret: ClassVar[tuple[str, ...]] = ("jobs_url",)

    max_queued_jobs: int = Field(
        1000,
        ge=1,
        validation_alias=AliasChoices("STABLE_AUDIO_MAX_QUEUED_JOBS"),
        description="Jobs that may wait for each model; one more for it is answered 429 with "
        "`Retry-After`.",
    )
    job_max_wait: float = Field(
        86_400.0,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("STABLE_AUDIO_JOB_MAX_WAIT"),
        description="Seconds that a job may wait for a replica before it fails with "
        "`wait_exceeded` (default: a day). Time without any dispatcher does not count.",
    )
    jobs_url: str = Field(
        "sqlite:///.sa-ray/jobs.db",
        validation_alias=AliasChoices("STABLE_AUDIO_JOBS_URL"),
        description="Where job state is kept: `sqlite:///path` (relative to the working "
        "directory of the cluster's head), `postgresql://user:password@host/database`, or "
        "`redis://:password@host:6379/0` (`rediss://` over TLS), with its append-only file on and "
        "`appendfsync always`. One with a password belongs in the environment, not in `args`.",
    )
    jobs_password: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_JOBS_PASSWORD"),
        description="Password for a `jobs_url` that holds none.",
    )
    job_ttl: float = Field(
        604_800.0,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("STABLE_AUDIO_JOB_TTL"),
        description="Seconds after its end at which a job and its audio are deleted (default: "
        "seven days).",
    )

    @model_validator(mode="after")
    def _set_password_apart(self) -> Self:
        url, password = without_password(self.jobs_url)
        if password is not None and self.jobs_password is not None:
            raise ValueError(
                "STABLE_AUDIO_JOBS_URL holds a password, and STABLE_AUDIO_JOBS_PASSWORD is set: "
                "leave one out"
            )
        if holds_password(url):
            raise ValueError(
                "STABLE_AUDIO_JOBS_URL holds a password that cannot be told from the rest: put it "
                "into STABLE_AUDIO_JOBS_PASSWORD"
            )
        # The group is frozen for others.
        if password is not None:
            self.__dict__.update(jobs_url=url, jobs_password=SecretStr(password))
        return self

    def sealed(self) -> Self:
        # SQLite has no password, so no node has to have one.
        needless = {"jobs_password": None} if self.jobs_url.startswith("sqlite") else {}
        return super().sealed().model_copy(update=needless)

    def require_fitting(self, own: Self, found: Mapping[str, str]) -> None:
        if "jobs_url" in found and own.jobs_password and own.jobs_url != self.jobs_url:
            raise ConfigurationError(
                "STABLE_AUDIO_JOBS_URL names another store than where the application was built. "
                "Set it alike on every node, and deploy again.",
                param="STABLE_AUDIO_JOBS_URL",
            )


class WebhookSettings(SettingsGroup):
    """Calls that tell clients of the end of their jobs."""

    webhook_secret: WebhookSecret = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_WEBHOOK_SECRET"),
        description="Signs webhook calls (Standard Webhooks): `whsec_` and 24 to 64 random bytes "
        "in base64. While receivers change over: the new one, a comma and the old one, for a "
        "signature by each. Unset: requests that name a `webhook_url` are refused.",
    )
    webhook_allow_private: bool = Field(
        False,
        validation_alias=AliasChoices("STABLE_AUDIO_WEBHOOK_ALLOW_PRIVATE"),
        description="Also call webhooks at private, loopback and link-local addresses. Clients "
        "choose those addresses: leave it off where they are not trusted. Addresses at which "
        "clouds tell their machines secrets are never called.",
    )
    webhook_ca_file: Path | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_WEBHOOK_CA_FILE", "SSL_CERT_FILE"),
        description="File of certificates (PEM) of authorities that webhook receivers may have, "
        "besides the public ones. Read once, where the application is built.",
    )

    @model_validator(mode="after")
    def _check_authorities(self) -> Self:
        self.authorities()
        return self

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """The parts of ``webhook_secret``, newest first; empty where no webhooks are called."""
        return (
            tuple(self.webhook_secret.get_secret_value().split(",")) if self.webhook_secret else ()
        )

    def authorities(self) -> str | None:
        """Return the certificates of ``webhook_ca_file``; None where no webhooks are called.

        Raises ``ValueError`` if the file has none.
        """
        if self.webhook_secret is None or self.webhook_ca_file is None:
            return None
        try:
            text = self.webhook_ca_file.expanduser().read_text(encoding="ascii", errors="ignore")
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"webhook_ca_file {self.webhook_ca_file} holds no certificates in PEM that can be "
                f"read ({error})"
            ) from error
        return text
