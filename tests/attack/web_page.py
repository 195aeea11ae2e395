"""A page that tries to use the service of whoever opens it, in a real Chromium."""

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_WR, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlencode

from tests.support.chromium import FLAGS, chromium

PATIENCE_S = 120.0

HOST_OF_PAGES = "127.0.0.1"
HOST_OF_REBOUND = "127.0.0.2"
"""Where the rebound name leads: pages from there, and all else from the service."""

NAMES = {"evil.example": HOST_OF_PAGES, "rebound.example": HOST_OF_REBOUND}

PAGE = """<!doctype html><meta charset="utf-8"><body><script type="module">
const given = new URLSearchParams(location.search), service = given.get("service");
const clip = JSON.stringify({prompt: "planted by a page", duration: 1});
const outcomes = {};
const status = answer => answer.type === "opaque" ? "opaque" : answer.status;
const send = (path, options) => fetch(service + path, options).then(status);
const as = (type, options = {}) =>
  ({method: "POST", body: clip, headers: {"Content-Type": type}, ...options});

async function attempt(name, act) {
  try { outcomes[name] = await act(); } catch (error) { outcomes[name] = error.name; }
}

function submitForm() {
  const frame = document.body.appendChild(Object.assign(document.createElement("iframe"),
                                                        {name: "answer"}));
  const form = document.body.appendChild(Object.assign(document.createElement("form"), {
    method: "POST", action: service + "/jobs", enctype: "text/plain", target: "answer"}));
  form.appendChild(Object.assign(document.createElement("input"), {
    name: clip.slice(0, -1) + ', "negative_prompt": "', value: '"}'}));
  return new Promise(resolve => { frame.onload = () => resolve("sent"); form.submit(); });
}

function load(kind, path) {
  const made = Object.assign(document.createElement(kind), {src: service + path});
  return new Promise(resolve => {
    made.onload = () => resolve("loaded"); made.onerror = () => resolve("failed");
    document.body.appendChild(made);
  });
}

function follow(path) {
  const source = new EventSource(service + path);
  return new Promise(resolve => {
    source.onopen = () => { source.close(); resolve("opened"); };
    source.onerror = () => { source.close(); resolve("failed"); };
  });
}

await attempt("read the jobs", () => send("/jobs"));
await attempt("post JSON", () => send("/jobs", as("application/json")));
await attempt("post text", () => send("/jobs", as("text/plain", {mode: "no-cors"})));
await attempt("post a form's type",
  () => send("/jobs", as("application/x-www-form-urlencoded", {mode: "no-cors"})));
await attempt("post without a type",
  () => send("/jobs", {method: "POST", mode: "no-cors", body: new Blob([clip])}));
await attempt("submit a form", submitForm);
await attempt("send a beacon", () => navigator.sendBeacon(
  service + "/jobs", new Blob([clip], {type: "application/json"})));
await attempt("generate", () => send("/v1/audio/generations", as("application/json")));
await attempt("follow a job", () => follow(`/jobs/${given.get("ended")}/events`));
await attempt("load as an image", () => load("img", `/jobs/${given.get("ended")}`));
await attempt("load as a script", () => load("script", "/jobs"));
await attempt("cancel", () => send(`/jobs/${given.get("running")}`, {method: "DELETE"}));
await attempt("delete", () => send(`/jobs/${given.get("ended")}`, {method: "DELETE"}));
navigator.sendBeacon(given.get("report"), JSON.stringify({...outcomes, origin: self.origin}));
</script>"""


class Browser:
    """Opens pages of a stranger, and hears what became of their attempts."""

    def __init__(self, pages_port: int, reports: "queue.Queue[dict[str, object]]") -> None:
        self._pages = f"{HOST_OF_PAGES}:{pages_port}"
        self._reports = reports

    def visit(self, page: str, **given: str) -> dict[str, object]:
        """Open ``page`` and return what each of its attempts came to."""
        given["report"] = f"http://{self._pages}/report"
        rules = ",".join(f"MAP {name} {address}" for name, address in NAMES.items())
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
            subprocess.Popen(
                [
                    *(str(chromium()), *FLAGS),
                    f"--user-data-dir={profile}",
                    f"--host-resolver-rules={rules}",
                    f"{page}?{urlencode(given)}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as browser,
        ):
            try:
                return self._reports.get(timeout=PATIENCE_S)
            finally:
                browser.terminate()


@contextmanager
def pages(service_port: int) -> Iterator[tuple[Browser, int]]:
    """Serve the page, at a port of its own and, by its rebound name, at the service's."""
    reports: queue.Queue[dict[str, object]] = queue.Queue()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.startswith("/page")
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/html")
            if self.path.startswith("/page-without-origin"):
                self.send_header("Content-Security-Policy", "sandbox allow-scripts allow-forms")
            self.end_headers()
            self.wfile.write(PAGE.encode() if known else b"")

        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            reports.put(json.loads(self.rfile.read(size)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with (
        ThreadingHTTPServer((HOST_OF_PAGES, 0), Pages) as own,
        _Rebound((HOST_OF_REBOUND, service_port), own.server_port) as rebound,
    ):
        for server in (own, rebound):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Browser(own.server_port, reports), own.server_port
        finally:
            own.shutdown()
            rebound.shutdown()


class _Rebound(ThreadingTCPServer):
    """What a name that is bound again comes to: the page first, then the service behind the same
    name and port. The bytes are as the browser sent them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], pages_port: int) -> None:
        super().__init__(address, _Piped)
        self.pages_port = pages_port


class _Piped(BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Rebound)
        first = self.request.recv(65_536)
        to_pages = first.startswith((b"GET /page", b"GET /favicon"))
        port = self.server.pages_port if to_pages else self.server.server_address[1]
        with socket() as onward:
            onward.connect((HOST_OF_PAGES, port))
            onward.sendall(first)
            back = threading.Thread(target=_pipe, args=(onward, self.request), daemon=True)
            back.start()
            _pipe(self.request, onward)
            back.join(PATIENCE_S)


def _pipe(source: socket, sink: socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(SHUT_WR)
    except OSError:
        pass  # the other side has gone
