"""Log lines a machine can read and metrics that add up."""

import json
import logging

import pytest

from service.telemetry import REQUEST_ID, JsonLines, Metrics, log_to_stdout
from tests.service.store_front import LIVE
from tests.service.wire import Client


def line(**extra: object) -> dict[str, object]:
    record = logging.makeLogRecord(
        {"name": "here", "levelno": logging.INFO, "levelname": "INFO", "msg": "it\nis", **extra}
    )
    text = JsonLines().format(record)
    assert "\n" not in text
    read: dict[str, object] = json.loads(text)
    return read


def test_a_log_line_is_one_json_object() -> None:
    read = line(created=0.0)
    assert read == {"at": "1970-01-01T00:00:00.000+00:00", "level": "info", "logger": "here", "message": "it\nis"}


def test_a_log_line_carries_the_id_of_the_request_it_belongs_to() -> None:
    token = REQUEST_ID.set("r1")
    assert line()["request_id"] == "r1"
    REQUEST_ID.reset(token)
    assert "request_id" not in line()


def test_a_log_line_carries_facts_and_traceback() -> None:
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        read = line(facts={"route": "/rank"}, exc_info=(type(error), error, error.__traceback__))
    assert read["route"] == "/rank"
    assert "ZeroDivisionError: why" in str(read["traceback"])


def test_every_logger_writes_json_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        log_to_stdout("warning")
        logging.getLogger("any").warning("one %s", "thing")
        logging.getLogger("any").info("not this")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert [json.loads(text)["message"] for text in capsys.readouterr().out.splitlines()] == ["one thing"]


def exposed(metrics: Metrics, live: str | None = None) -> list[str]:
    return metrics.expose(lambda: (live, "exact") if live else None).decode().splitlines()


def test_a_ranking_is_counted_by_candidates_odd_values_and_what_was_missing() -> None:
    metrics = Metrics()
    metrics.ranked(count=200, statuses={"country": "missing", "age": "null"}, degraded=["feature_store"])
    metrics.ranked(count=100, statuses={"country": "missing"}, degraded=[])
    lines = exposed(metrics)
    assert "appshelf_ranked_candidates_sum 300.0" in lines
    assert 'appshelf_field_values_total{field="country",status="missing"} 2.0' in lines
    assert 'appshelf_field_values_total{field="age",status="null"} 1.0' in lines
    assert 'appshelf_degraded_answers_total{missing="feature_store"} 1.0' in lines


def test_impressions_are_counted_as_written_or_by_why_they_were_not() -> None:
    metrics = Metrics()
    metrics.impressions_kept(500)
    metrics.impressions_kept(3)
    metrics.impressions_lost("buffer_full", count=2)
    lines = exposed(metrics)
    assert "appshelf_impressions_total 503.0" in lines
    assert 'appshelf_impressions_dropped_total{reason="buffer_full"} 2.0' in lines


def test_events_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    metrics.events_judged(["accepted", "late", "accepted"])
    lines = exposed(metrics)
    assert 'appshelf_events_total{status="accepted"} 2.0' in lines
    assert 'appshelf_events_total{status="late"} 1.0' in lines


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "ok"), (204, "ok"), (404, "refused"), (499, "left"), (503, "failed")]
)
def test_an_answer_is_counted_by_route_and_outcome(status: int, outcome: str) -> None:
    metrics = Metrics()
    metrics.answered("/rank", status, seconds=0.25)
    assert f'appshelf_request_seconds_sum{{outcome="{outcome}",route="/rank"}} 0.25' in exposed(metrics)


def test_the_live_version_is_the_only_version_told() -> None:
    metrics = Metrics()
    assert 'appshelf_live_version_info{precision="exact",version="v1"} 1.0' in exposed(metrics, "v1")
    after = [text for text in exposed(metrics, "v2") if text.startswith("appshelf_live_version_info")]
    assert after == ['appshelf_live_version_info{precision="exact",version="v2"} 1.0']
    assert not [text for text in exposed(metrics) if text.startswith("appshelf_live_version_info{")]


def test_requests_are_counted_under_their_routes_template_and_never_under_an_id(reader: Client) -> None:
    reader.get("/users/a-very-private-id")
    reader.get("/a-path-of-no-route")
    text = reader.get("/metrics").text
    assert 'outcome="refused",route="/users/{user_id:path}"' in text
    assert 'outcome="refused",route="none"' in text
    assert "private" not in text
    assert f'appshelf_live_version_info{{precision="exact",version="{LIVE}"}} 1.0' in text


def test_an_answer_is_logged_only_at_debug(reader: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        reader.post("/rank", json={"user": {"id": "u1", "features": {"country": "PT"}}})
    assert not [record for record in caplog.records if record.name.startswith("service")]
    with caplog.at_level(logging.DEBUG):
        reader.post("/rank", json={"user": {"id": "u1"}})
    facts = [getattr(record, "facts", {}) for record in caplog.records if record.name == "service.api.envelope"]
    assert facts[0]["route"] == "/rank"
