from bench.serving_report import report
from bench.serving_table import Measured, Spread, Started, ratios, spread, table


def measured(contestant: str, number: int, *, cpu_ms: float, connections: int = 8) -> Measured:
    return Measured(
        contestant=contestant,
        round=number,
        candidates=200,
        connections=connections,
        per_second=1000 / cpu_ms,
        p50_ms=cpu_ms,
        p99_ms=2 * cpu_ms,
        p999_ms=3 * cpu_ms,
        cpu_ms=cpu_ms,
        refused=0,
        failed=0,
        balance=(4, 4),
    )


RUNS = [
    measured("fast", 0, cpu_ms=1.0),
    measured("openvino-bf16", 0, cpu_ms=2.0),
    measured("fast", 1, cpu_ms=3.0),
    measured("openvino-bf16", 1, cpu_ms=4.0),
    measured("fast", 2, cpu_ms=1.5),
]


def test_a_spread_is_the_median_with_the_least_and_the_greatest() -> None:
    assert spread(RUNS, "fast", (200, 8), figure=lambda run: run.cpu_ms) == Spread(1.5, 1.0, 3.0)
    assert str(Spread(1.5, 1.0, 3.0)) == "1.5 [1-3]"


def test_what_was_never_measured_in_a_cell_has_no_spread_there() -> None:
    assert spread(RUNS, "fast", (200, 32), figure=lambda run: run.cpu_ms) is None


def test_a_ratio_is_taken_within_each_round_and_only_where_both_were_measured() -> None:
    found = ratios(RUNS, "fast", "openvino-bf16", figure=lambda run: run.cpu_ms)
    assert found == {(200, 8): Spread(0.625, 0.5, 0.75)}


def test_a_report_holds_every_cell_every_start_and_ours_over_each_peer() -> None:
    text = report([*RUNS, measured("fast", 0, cpu_ms=1.0, connections=32), Started("fast", 0, 1.25, 900.0)])
    assert "200 candidates, 8 connections" in text
    assert "200 candidates, 32 connections" in text
    assert "4:4 4:4 4:4" in text
    line = next(text for text in text.split("CPU ms/request: fast over")[1].splitlines() if "openvino" in text)
    assert line.split() == ["openvino-bf16", "0.625", "[0.5-0.75]", "-"]
    assert "1.25 [1.25-1.25]" in text


def test_columns_of_a_table_stand_under_their_heads() -> None:
    assert table(["name", "n"], [["a", 1], ["longer", 20]]) == "name     n\na        1\nlonger  20"
