"""Serve until told to stop: what the commands ``sa-ray serve`` and ``stable-audio-api`` do."""

import logging

from sa_ray.jobs.sqlite_file import Claim
from sa_ray.local.configuration import Configuration
from sa_ray.local.ports import require_free
from sa_ray.local.private_ray import (
    require_own_working_directory,
    say_whose_code_runs,
    server_folder,
)
from sa_ray.local.supervisor import Supervisor
from sa_ray.settings import AccessSettings
from sa_ray.telemetry import configure_logging

logger = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def serve(host: str, port: int) -> int:
    """Serve HTTP on a private Ray until told to stop, and return the exit code of ``Supervisor``.

    Raises ``SaRayError`` before anything is started if the settings, the port, the file of the
    jobs or the place for Ray's files cannot be used.
    """
    configure_logging()
    configuration = Configuration(host, port, {})
    settings = configuration.settings()
    require_free(host, port)
    require_own_working_directory()
    say_whose_code_runs()
    _say_whom_it_answers(host, settings.access)
    # The job actor claims it for as long as it lives; here it can be said at once.
    Claim(settings.jobs.jobs_url).release()
    return Supervisor(configuration, server_folder()).run()


def _say_whom_it_answers(host: str, access: AccessSettings) -> None:
    if host in LOOPBACK or access.api_keys_file:
        return
    if access.allow_anonymous:
        logger.warning("Whoever reaches %s may use the service, as there are no keys.", host)
    else:
        logger.warning(
            "It listens on %s, but answers clients on this machine only, as there are no keys: set "
            "STABLE_AUDIO_API_KEYS_FILE (`sa-ray keys create` makes one), or, where only trusted "
            "clients can reach it, STABLE_AUDIO_ALLOW_ANONYMOUS=true.",
            host,
        )
