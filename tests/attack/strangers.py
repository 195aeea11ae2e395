"""What somebody without the token, or of another user, tries."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

NOBODY = 65_534
PATIENCE_S = 30.0

JOIN = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.get(ray.remote(lambda: "code ran").remote(), timeout=20))
"""

CALL_REPLICA = """
import grpc, pickle, sys
from ray.serve.generated import serve_pb2

class Touch:
    def __reduce__(self):
        import pathlib
        return pathlib.Path.touch, (pathlib.Path(sys.argv[2]),)

if credentials := sys.argv[3]:
    certificate, key = (open(path, "rb").read() for path in credentials.split(":"))
    channel = grpc.secure_channel(
        sys.argv[1], grpc.ssl_channel_credentials(certificate, key, certificate)
    )
else:
    channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_unary(
    "/ray.serve.ASGIService/HandleRequest",
    request_serializer=lambda message: message.SerializeToString(),
    response_deserializer=lambda raw: raw,
)
poison = pickle.dumps(Touch())
try:
    call(
        serve_pb2.ASGIRequest(pickled_request_metadata=poison, request_args=poison),
        timeout=20,
        metadata=[tuple(pair.split("=", 1)) for pair in sys.argv[4:]],
    )
except grpc.RpcError as error:
    print(error.code().name)
else:
    print("answered")
"""

START_SYNC = """
import grpc, sys

def plain(message):
    return message

call = grpc.insecure_channel(sys.argv[1]).stream_stream(
    "/ray.rpc.syncer.RaySyncer/StartSync", plain, plain
)
try:
    list(call(iter([b""]), timeout=10))
except grpc.RpcError as error:
    print(error.code().name)
"""
"""Without metadata this ends a process of Ray that takes it, whatever token it wants (2.60.0: a
failed check in ``ray_syncer_server.cc``): its port is free then for whoever wants to be sent the
token."""


def run_without_token(
    script: str, *arguments: str, home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python ``script`` as a process that knows no token of any cluster.

    One that still waits for an answer after ``PATIENCE_S`` is ended, with the return code 124.
    """
    clean = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", script, *arguments]
    # The switch lets Ray call a loopback address, which it else takes for the node's other one.
    switch = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with subprocess.Popen(
        command,
        env={**clean, "HOME": str(home), **switch, **environment},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            return subprocess.CompletedProcess(command, 124, output, errors)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Run ``command`` as another user of the machine; only root can."""
    setpriv = shutil.which("setpriv")
    assert setpriv, "setpriv (util-linux) is needed to become another user"
    become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run([*become, *command], capture_output=True, text=True, check=False)


def listening(mark: dict[int, str]) -> dict[tuple[str, int], str]:
    """Address and port of every socket on which one of the processes ``mark`` listens."""
    return {
        (connection.laddr.ip, connection.laddr.port): mark[connection.pid]
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in mark
    }
