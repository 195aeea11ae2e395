"""Submit a job, be called once it has ended, and take no call but that one."""

import base64
import secrets
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from standardwebhooks import Webhook, WebhookVerificationError

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest, JobView

SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
ADDRESS = ("127.0.0.1", 8008)
"""Where the service reaches this receiver; of a service elsewhere, a public name."""


class Receiver(BaseHTTPRequestHandler):
    ended: JobView | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = Webhook(SECRET).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(401)
            return
        # Answer first, work later: only what is answered in 10 s counts as delivered.
        self.send_response(204)
        self.end_headers()
        Receiver.ended = JobView.model_validate(event["data"])


with HTTPServer(ADDRESS, Receiver) as server, Client("http://localhost:8000") as client:
    client.submit(
        GenerationRequest(prompt="a church bell", duration=2.0),
        webhook_url=f"http://{ADDRESS[0]}:{server.server_port}/sounds",
        webhook_secret=SECRET,
    )
    while Receiver.ended is None:
        server.handle_request()
    print(Receiver.ended.status, Receiver.ended.error or "")
    if Receiver.ended.status == "succeeded":
        client.download(Receiver.ended, Path("bell.wav"))
