"""What a request and a job cost the processes that work on them is one trace each."""

from collections.abc import Callable

import pytest

from tests.support.otlp_collector import (
    CLIENT_SPAN,
    CLIENT_TRACE,
    TRACEPARENT,
    Collector,
    Seen,
    collecting,
)

from .application import CONTROL, Application

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

JOBS_TRACE = CLIENT_TRACE[::-1]

OF_VARIANT = {"queue": "variant", "engine": "variant", "encode": "variant"}
OF_REQUEST = {"POST /v1/audio/generations": "", "variant": "POST /v1/audio/generations"}
OF_JOB = {
    "POST /jobs": "",
    "job attempt": "POST /jobs",
    "variant": "job attempt",
    "upload": "job attempt",
}


def parents(spans: list[Seen]) -> dict[str, str]:
    """The name of each span's parent; empty: the client's."""
    names = {span.span_id: span.name for span in spans} | {CLIENT_SPAN: ""}
    return {span.name: names.get(span.parent_id, "unknown") for span in spans}


def trace(collector: Collector, trace_id: str, count: int) -> list[Seen]:
    def of_it(spans: list[Seen]) -> list[Seen]:
        return [span for span in spans if span.trace_id == trace_id]

    return of_it(collector.until(lambda spans: len(of_it(spans)) >= count))


def test_a_request_and_a_job_are_one_trace_each(application: Callable[..., Application]) -> None:
    app = application(preload_models="small-sfx")
    control = {"ray_actor_options": CONTROL}
    names = ("ingress", "dispatcher", "small-sfx", "small-music", "medium")
    body = {"prompt": "rain", "model": "small-sfx", "duration": 1}
    with collecting() as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        app.deploy(dict.fromkeys(names, control), runtime_env={"env_vars": variables})

        answer = app.service.http.post(
            "/v1/audio/generations", json=body, headers={"traceparent": TRACEPARENT}
        )
        assert answer.status_code == 200, answer.text
        spans = trace(collector, CLIENT_TRACE, len(OF_REQUEST | OF_VARIANT))
        assert parents(spans) == OF_REQUEST | OF_VARIANT
        given = answer.headers["traceparent"].split("-")
        [request] = [span for span in spans if span.name in OF_REQUEST and span.name != "variant"]
        assert given[1:3] == [CLIENT_TRACE, request.span_id]

        of_client = {"traceparent": f"00-{JOBS_TRACE}-{CLIENT_SPAN}-01"}
        accepted = app.service.http.post("/jobs", json=body, headers=of_client)
        assert accepted.status_code == 202, accepted.text
        app.service.wait_for(accepted.json()["id"], "succeeded")
        spans = trace(collector, JOBS_TRACE, len(OF_JOB | OF_VARIANT))
        assert parents(spans) == OF_JOB | OF_VARIANT
        assert {span.resource["service.name"] for span in spans} == {"sa-ray"}
        assert "rain" not in repr(spans)
