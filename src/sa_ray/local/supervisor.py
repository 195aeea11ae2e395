"""Keep the service of one machine up: start it again when Ray or the service is broken."""

import logging
import signal
import time
from pathlib import Path

from sa_ray.local.certificate import write_private
from sa_ray.local.configuration import CONFIG_NAME, Configuration
from sa_ray.local.liveness import SILENT_S, Liveness
from sa_ray.local.private_ray import server_folder
from sa_ray.local.processes import reap_orphans
from sa_ray.local.server import Server, keep_logs
from sa_ray.local.signals import Signals

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

START_TIMEOUT_S = 180.0
"""Time for the HTTP ingress to answer. It loads no weights."""

STOP_TIMEOUT_S = 40.0
"""Time to stop in order; Serve itself gives up after 30 s."""

STEADY_S = 60.0
"""Time after which a service that answers has started well."""

MOST_STARTS = 6
"""Starts in a row, none of which held for ``STEADY_S``, before the command gives up."""

MOST_FIRST_STARTS = 3
"""The same for a service that has never answered: then it is rather set up wrongly."""

REPEATED_S = 0.3
"""A stop signal this soon after another is the same, passed on by a parent (``uv run``) too."""

POLL_S = 0.5


class Told(Exception):
    """A signal says to stop."""


class Supervisor:
    """Runs the service in a child, and another child when that one fails.

    ``folder``: for the files of its Ray, of which the logs stay.
    """

    def __init__(self, configuration: Configuration, folder: Path) -> None:
        self._configuration = configuration
        self._folder = folder
        # The end of a child wakes it, too.
        self._signals = Signals((*STOP_SIGNALS, signal.SIGCHLD))
        self._served = False
        self._starts = 0

    def run(self) -> int:
        """Serve until told to stop, and return the exit code: 0 if all has stopped in order, 1 if
        it has not or cannot be kept up, 128 and more if a second signal cut the stop short.

        SIGINT, SIGTERM and SIGHUP stop it, unless they were ignored before.
        """
        while True:
            if not self._folder.exists():  # somebody cleaned up
                self._folder = server_folder()
            config = write_private(self._folder / CONFIG_NAME, self._configuration.text)
            server = Server(config, self._folder, haproxy=self._configuration.suits_haproxy)
            try:
                fault = self._watch(server)
            except Told:
                return self._stop(server)
            server.end()
            logs = keep_logs(self._folder)
            where = f" The logs of its Ray are in {logs}." if logs else ""
            if self._starts >= (MOST_STARTS if self._served else MOST_FIRST_STARTS):
                logger.error("%s Given up after %d starts.%s", fault, self._starts, where)
                return 1
            logger.warning("%s It is started again; its jobs are kept.%s", fault, where)
            # Not at once if that has not helped: what is missing may come.
            if self._told_within(2.0 ** (self._starts - 1) - 1):
                return 0

    def _watch(self, server: Server) -> str:
        """Return what is wrong with the server, as soon as something is; raises ``Told``."""
        self._starts += 1
        started = time.monotonic()
        urls = self._configuration.ready_url, self._configuration.alive_url
        with Liveness(*urls) as liveness:
            while True:
                if self._signals.next(POLL_S) in STOP_SIGNALS:
                    raise Told
                reap_orphans(keep=server.pid)
                ready_for = liveness.ready_for_s
                if ready_for is not None and not self._served:
                    self._served = True
                    logger.info("Ready. The page is at %s.", self._configuration.page_url)
                if ready_for and ready_for > STEADY_S:
                    self._starts = 1
                if (code := server.exit_code()) is not None:
                    return f"The service has ended by itself ({_explained(code)})."
                if liveness.silent:
                    return f"The service has not answered for {SILENT_S:.0f} s."
                if ready_for is None and time.monotonic() - started > START_TIMEOUT_S:
                    return f"The service has not answered {START_TIMEOUT_S:.0f} s after its start."

    def _stop(self, server: Server) -> int:
        """Stop in order, or at once at another signal; return the exit code."""
        told = time.monotonic()
        code = 0
        server.interrupt()
        while server.exit_code() is None and code == 0:
            number = self._signals.next(POLL_S)
            stopping_for = time.monotonic() - told
            if number in STOP_SIGNALS and stopping_for > REPEATED_S:
                code = 128 + number
            elif stopping_for > STOP_TIMEOUT_S:
                logger.warning("The service has not stopped within %.0f s.", STOP_TIMEOUT_S)
                code = 1
        server.end()
        keep_logs(self._folder)
        return code

    def _told_within(self, seconds: float) -> bool:
        """Wait that long for a signal to stop."""
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, until - time.monotonic())
            if self._signals.next(left) in STOP_SIGNALS:
                return True
            if not left:
                return False


def _explained(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
