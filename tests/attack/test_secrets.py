"""No secret is where somebody without it may look: in Ray's state, answers, commands, files."""

import base64
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from ray.cluster_utils import Cluster

from bench.databases import PostgresqlServer, RedisServer
from sa_ray.local import free_port
from tests.cluster.application import Application
from tests.support.object_stores import s3_settings
from tests.support.ray_cluster import several_nodes
from tests.support.s3_server import S3Server
from tests.support.secret_settings import environment
from tests.support.webhook_receiver import Receiver, receiving

pytestmark = [pytest.mark.attack, pytest.mark.timeout(300)]

USER = "job_keeper"

ANSWERS = (
    "/api/serve/applications/",
    "/api/jobs/",
    "/api/v0/actors?detail=true",
    "/api/v0/tasks?detail=true",
    "/api/v0/workers?detail=true",
    "/api/v0/runtime_envs?detail=true",
    "/logical/actors",
    "/nodes?view=summary",
)
"""Of Ray's dashboard, from which its commands have what they print."""


@dataclass
class Planted:
    """A service that was given secrets, and where its Ray keeps its state."""

    application: Application
    cluster: Cluster
    state: RedisServer
    secrets: dict[str, str]
    """By environment variable."""
    searched: list[str] = field(default_factory=list)

    def leaks(self, place: str, content: bytes) -> list[str]:
        """The secrets that ``content`` gives away, with the number of copies."""
        self.searched.append(place)
        found = {
            name: sum(content.count(text) for text in disguises(secret))
            for name, secret in self.secrets.items()
        }
        return [f"{name} in {place}: {count}" for name, count in found.items() if count]


def disguises(secret: str) -> set[bytes]:
    """How ``secret`` may be written: as it is, in hexadecimal, in base64 with others around it."""
    raw = secret.encode()
    coded = (base64.b64encode(bytes(before) + raw)[4:-4] for before in range(3))
    return {raw, raw.hex().encode(), *coded}


@pytest.fixture(scope="module")
def planted(
    redis_db: RedisServer,
    postgresql_server: PostgresqlServer,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Planted]:
    password = secrets.token_hex(16)
    marks = {
        "HF_TOKEN": f"hf_{secrets.token_hex(16)}",
        "STABLE_AUDIO_WEBHOOK_SECRET": "whsec_"
        + base64.b64encode(secrets.token_bytes(32)).decode(),
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "password": password,
    }
    variables = {
        **marks,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "STABLE_AUDIO_JOBS_URL": postgresql_server.create_login(USER, password),
    }
    del variables["password"]
    storage = {name: value for name, value in s3_settings(s3_server).items() if "key" not in name}
    state = {"external_addresses": [f"127.0.0.1:{redis_db.port}"] * 2, "num_redis_shards": 1}
    with environment(variables), several_nodes(num_cpus=4, **state) as cluster:
        folder = tmp_path_factory.mktemp("planted")
        application = Application(
            cluster, free_port(), folder, webhook_allow_private=True, **storage
        )
        del application.args["jobs_url"]
        application.deploy({})
        planted = Planted(application, cluster, redis_db, marks)
        with receiving() as receiver:
            use(application, postgresql_server, receiver)
        yield planted


def use(application: Application, database: PostgresqlServer, receiver: Receiver) -> None:
    """Have a job done, its audio read, its webhook called; then the database away for a while."""
    service = application.service
    job_id = service.submit(webhook_url=receiver.url())
    service.wait_for(job_id)
    assert service.http.get(f"/jobs/{job_id}/audio").status_code == 302
    receiver.calls.get(timeout=60)
    database.kill()
    try:
        service.until(lambda: not service.health().jobs.ok)
        service.http.get(f"/jobs/{job_id}")
    finally:
        database.start()
    service.until(lambda: service.health().jobs.ok)


def test_rays_state_holds_no_secret(planted: Planted) -> None:
    # Every write that was ever made, as no snapshot has taken its place yet.
    log = (planted.state.folder / "appendonly.aof").read_bytes()

    assert b"sa_ray.serving" in log
    assert planted.leaks("Ray's state", log) == []


def test_no_answer_of_ray_or_the_service_holds_a_secret(planted: Planted) -> None:
    dashboard = f"http://{planted.cluster.webui_url}"
    leaks = []
    for url in [f"{dashboard}{path}" for path in ANSWERS]:
        answer = httpx.get(url, timeout=60)
        assert answer.status_code == 200, answer.text
        leaks += planted.leaks(url, answer.content)
    for path in ("/health", "/openapi.json", "/jobs", "/v1/models"):
        answer = planted.application.service.http.get(path)
        assert answer.status_code == 200, answer.text
        leaks += planted.leaks(path, answer.content)

    assert leaks == []


def test_no_command_line_holds_a_secret(planted: Planted) -> None:
    processes = psutil.Process().children(recursive=True)
    commands = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            commands[process.pid] = "\0".join(process.cmdline())

    assert any("raylet" in command for command in commands.values())
    assert any("ServeReplica" in command for command in commands.values())
    assert planted.leaks("command lines", "\n".join(commands.values()).encode()) == []


def test_no_file_or_log_of_ray_holds_a_secret(planted: Planted) -> None:
    session = Path(planted.cluster.head_node.get_session_dir_path())
    leaks = []
    for path in session.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(FileNotFoundError):  # it is gone meanwhile
                leaks += planted.leaks(str(path), path.read_bytes())

    assert any("replica" in place for place in planted.searched)
    assert leaks == []
