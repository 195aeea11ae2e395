"""Traces of this process, at a collector."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from sa_ray.contracts import ResolvedRequest
from sa_ray.jobs import JobCoordinator, open_job_store
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.services import of_this_replica
from sa_ray.settings import load_settings
from sa_ray.telemetry import (
    JsonFormatter,
    close_tracing,
    current_traceparent,
    note_failure,
    record_span,
    span,
)
from tests.support.clock import Clock
from tests.support.jobs import resolved
from tests.support.otlp_collector import (
    CLIENT_SPAN,
    CLIENT_TRACE,
    TRACEPARENT,
    Collector,
    collecting,
)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Of an ingress that has jobs, and nothing else."""
    store = open_job_store(f"sqlite:///{tmp_path}/jobs.db")
    jobs = JobCoordinator(store, clock=Clock(0.0), max_queued=1)
    settings = load_settings({})
    app = build_http_app(settings.edge, settings.limits)

    async def services() -> Any:
        return SimpleNamespace(jobs=jobs)

    app.dependency_overrides[of_this_replica] = services
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=("127.0.0.1", 1)), base_url="http://localhost"
    ) as opened:
        yield opened
    await jobs.close()


async def test_a_request_is_a_span_of_its_clients_trace(
    collector: Collector, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/v1/usage", headers={"traceparent": TRACEPARENT})
    await close_tracing()

    assert answer.status_code == 200, answer.text
    [seen] = collector.named("GET /v1/usage")
    assert (seen.trace_id, seen.parent_id) == (CLIENT_TRACE, CLIENT_SPAN)
    assert answer.headers["traceparent"] == f"00-{CLIENT_TRACE}-{seen.span_id}-01"
    assert seen.attributes["http.request.method"] == "GET"
    assert seen.attributes["http.route"] == "/v1/usage"
    assert seen.attributes["http.response.status_code"] == 200
    assert seen.resource["service.name"] == "sa-ray"
    assert collector.paths == {"/v1/traces"}


@pytest.mark.parametrize(
    "sent", [[], ["nonsense"], [TRACEPARENT, TRACEPARENT]], ids=["none", "nonsense", "two"]
)
async def test_a_request_without_a_usable_trace_begins_one(
    collector: Collector, client: httpx.AsyncClient, sent: list[str]
) -> None:
    answer = await client.get("/nowhere", headers=[("traceparent", one) for one in sent])
    await close_tracing()

    [seen] = collector.named("GET")
    assert seen.parent_id == ""
    assert seen.trace_id != CLIENT_TRACE
    assert answer.headers["traceparent"].startswith(f"00-{seen.trace_id}-{seen.span_id}-")
    assert seen.attributes["http.response.status_code"] == 404
    assert "http.route" not in seen.attributes


async def test_a_trace_that_its_client_does_not_sample_goes_on_and_is_not_sent(
    collector: Collector, client: httpx.AsyncClient
) -> None:
    unsampled = TRACEPARENT.removesuffix("01") + "00"

    answer = await client.get("/v1/usage", headers={"traceparent": unsampled})
    with span("sampled"):
        pass
    await close_tracing()

    assert answer.headers["traceparent"].startswith(f"00-{CLIENT_TRACE}-")
    assert answer.headers["traceparent"].endswith("-00")
    collector.named("sampled")
    assert [seen.name for seen in collector.spans] == ["sampled"]


async def test_log_lines_name_the_trace(collector: Collector) -> None:
    record = logging.LogRecord("sa_ray", logging.INFO, __file__, 1, "hello", (), None)

    with span("work", TRACEPARENT):
        inside = json.loads(JsonFormatter().format(record))
    outside = json.loads(JsonFormatter().format(record))

    assert inside["trace_id"] == CLIENT_TRACE
    assert "trace_id" not in outside


async def test_failures_are_marked_and_not_quoted(collector: Collector) -> None:
    with pytest.raises(ValueError, match="secret"), span("raised"):
        raise ValueError("a secret prompt")
    with span("noted"):
        note_failure(KeyError("a secret prompt"))
    record_span("recorded", TRACEPARENT, 1.0, 3.0, error=OSError("a secret prompt"))
    await close_tracing()

    seen = collector.named("raised", "noted", "recorded")
    assert all(one.failed for one in seen)
    kinds = [one.attributes["error.type"] for one in seen]
    assert kinds == ["ValueError", "KeyError", "OSError"]
    assert seen[2].ended - seen[2].began == pytest.approx(2.0, abs=0.1)
    assert "secret" not in repr(seen)


def test_requests_carry_the_trace_and_are_stored_without() -> None:
    request = resolved("small-sfx").traced(TRACEPARENT)

    assert [one.traceparent for one in request.variations()] == [TRACEPARENT]
    assert "traceparent" not in request.model_dump_json()
    assert ResolvedRequest.model_validate_json(request.model_dump_json()) == resolved("small-sfx")
    assert request.traced(None) is request


async def test_untraced_answers_carry_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/usage", headers={"traceparent": TRACEPARENT})

    assert "traceparent" not in answer.headers
    assert current_traceparent() is None


WORK = """
import asyncio, json, sys
from sa_ray.telemetry import *
configure_logging()
configure_tracing()
configure_tracing()
with span("work"):
    pass
asyncio.run(close_tracing())
print(json.dumps(sorted(name for name in sys.modules if name.startswith("opentelemetry"))))
"""

WITHOUT_EXTRA = "import sys\nsys.modules['opentelemetry.exporter.otlp'] = None\n"


def run(code: str, **variables: str) -> tuple[list[str], list[dict[str, Any]]]:
    """What a process imports of OpenTelemetry, and the lines that it logs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, env=kept | variables, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout), [json.loads(line) for line in ran.stderr.splitlines()]


REPLACED = """
import io, logging, sys
from sa_ray.telemetry import *
sys.stderr = io.StringIO()
configure_logging()
logging.getLogger("sa_ray.audit").info("generated")
print("[]")
"""


def test_lines_come_to_the_standard_error_whatever_stands_in_its_place() -> None:
    _, lines = run(REPLACED)

    assert [(line["logger"], line["message"]) for line in lines] == [("sa_ray.audit", "generated")]


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", None])
def test_nothing_is_imported_or_sent_unless_it_is_wanted(name: str | None) -> None:
    with collecting() as collector:
        off = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
        variables = (
            {name: off[name], "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint} if name else {}
        )

        assert run(WORK, **variables) == ([], [])
        assert collector.spans == []


def test_a_process_sends_its_spans_by_its_own_environment() -> None:
    with collecting() as collector:
        imported, logged = run(
            WORK,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.endpoint}/here",
            OTEL_SERVICE_NAME="ours",
        )
        [seen] = collector.named("work")

    assert "opentelemetry.sdk.trace" in imported
    assert logged == []
    assert seen.resource["service.name"] == "ours"
    assert collector.paths == {"/here"}


def test_a_missing_extra_is_said() -> None:
    imported, logged = run(
        WITHOUT_EXTRA + WORK.replace("configure_tracing()\nwith", "with"),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )

    assert "opentelemetry.sdk.trace" not in imported
    [line] = logged
    assert line["level"] == "warning"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in line["message"]
    assert "`otel`" in line["message"]
