import pytest

from bench.wrk import parse

PRINTED = """Running 4s test @ http://127.0.0.1:8000/rank
  1 threads and 8 connections
Requests/sec:   1000.00
{"requests": 4010, "duration_us": 4000000, "refused": 10, "failed": 2, "p50_us": 3900, "p99_us": 9000, "p999_us": 20500}
"""


def test_an_outcome_is_read_from_what_the_script_prints() -> None:
    outcome = parse(PRINTED)
    assert (outcome.requests, outcome.seconds, outcome.refused, outcome.failed) == (4010, 4.0, 10, 2)
    assert (outcome.p50_ms, outcome.p99_ms, outcome.p999_ms) == (3.9, 9.0, 20.5)


def test_only_right_answers_count_into_the_rate() -> None:
    assert parse(PRINTED).per_second == 1000.0


def test_a_run_that_printed_no_outcome_is_refused_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")
