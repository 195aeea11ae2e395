"""Real servers to test against, each a child process with a folder of its own."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sa_ray.local import free_port

START_TIMEOUT_S = 60.0
POLL_PERIOD_S = 0.1


@dataclass(frozen=True)
class S3Key:
    access_key: str
    secret_key: str


ADMIN = S3Key("admin-key", "admin-secret")
WRITER = S3Key("writer-key", "writer-secret")
READER = S3Key("reader-key", "reader-secret")

IDENTITIES = {
    "identities": [
        {
            "name": key.access_key,
            "credentials": [{"accessKey": key.access_key, "secretKey": key.secret_key}],
            "actions": actions,
        }
        for key, actions in (
            (ADMIN, ["Admin", "Read", "Write", "List", "Tagging"]),
            (WRITER, ["Read", "Write", "List", "Tagging"]),
            (READER, ["Read", "List"]),
        )
    ]
}


@dataclass
class S3Server:
    """SeaweedFS. The ``admin`` key makes missing buckets at the first write, ``writer`` does not,
    ``reader`` may not write. Data, address and port outlive ``stop`` and ``start``."""

    folder: Path
    ports: dict[str, int]
    admin: S3Key = ADMIN
    writer: S3Key = WRITER
    reader: S3Key = READER
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def access_key(self) -> str:
        return self.admin.access_key

    @property
    def secret_key(self) -> str:
        return self.admin.secret_key

    def start(self) -> None:
        """Return once an object can be written."""
        identities = self.folder / "s3.json"
        identities.write_text(json.dumps(IDENTITIES))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _binary("weed"),
                    "-logtostderr=true",
                    "server",
                    f"-dir={self.folder}",
                    "-ip=127.0.0.1",
                    "-master.telemetry=false",
                    "-master.electionTimeout=1s",
                    "-master.volumeSizeLimitMB=1024",
                    "-volume.max=100",
                    "-s3",
                    f"-s3.config={identities}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    *(f"-{name}={port}" for name, port in self.ports.items()),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_writable(self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_until_writable(self, process: subprocess.Popen[bytes]) -> None:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=10
            ),
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                client.put_object(Bucket="readiness", Key="probe", Body=b"ready")
                return
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")
                    self.stop()
                    raise RuntimeError(f"SeaweedFS did not start:\n{log[-4000:]}") from error
            time.sleep(POLL_PERIOD_S)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """A running SeaweedFS that keeps its data in ``folder``."""
    names = ("master", "volume", "filer", "s3")
    ports = {f"{name}.{kind}": free_port() for name in names for kind in ("port", "port.grpc")}
    server = S3Server(folder, ports)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _binary(name: str) -> str:
    """A program that a wheel installed beside the running Python."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed; run `uv sync`")
    return path
