"""What a browser complains of, and what it asks whom."""

import re

from playwright.sync_api import BrowserContext, ConsoleMessage, Request

OWN = ("blob:", "data:")

ABORTED = "net::ERR_ABORTED"
"""What became of a stream that its page has left."""


class Watch:
    """Collects the faults of all pages of a context: errors in the console, where the browser tells
    of a broken Content-Security-Policy as well, exceptions, requests that failed, and requests to
    any other origin than that of the page."""

    def __init__(self, context: BrowserContext) -> None:
        self.faults: list[str] = []
        self._allowed: list[re.Pattern[str]] = []
        context.on("console", self._console)
        context.on("weberror", lambda fault: self._note(f"exception: {fault.error}"))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)

    def allow(self, pattern: str) -> None:
        """From now on, faults that match are none: browsers tell of them late."""
        self._allowed.append(re.compile(pattern))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        page = request.frame.page.url if not request.is_navigation_request() else request.url
        if not request.url.startswith((*OWN, _origin(page))):
            self._note(f"{request.url} is asked by {page}")

    def _failed(self, request: Request) -> None:
        if request.failure != ABORTED:
            self._note(f"failed: {request.url}: {request.failure}")

    def _note(self, fault: str) -> None:
        if not any(pattern.search(fault) for pattern in self._allowed):
            self.faults.append(fault)


def _origin(url: str) -> str:
    return "/".join(url.split("/")[:3]) + "/"
