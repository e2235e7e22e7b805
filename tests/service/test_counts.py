"""Counts of several processes in one folder: what each tells, and what all of them add up to."""

import re
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from service.counts import Counts, Family
from service.telemetry import Metrics

SHOWN = Family("shown", "Apps shown")
BY_KIND = Family("kinds", "Events by kind", labels=("kind",))
WAITS = Family("waits", "Seconds waited", labels=("route",), bounds=(0.1, 1.0, 10.0))
SIZES = Family("sizes", "Candidates", bounds=(1, 10))
FAMILIES = (SHOWN, BY_KIND, WAITS, SIZES)


def lines(counts: Counts) -> list[str]:
    """What Prometheus would read."""

    class Read(Collector):
        def collect(self) -> list[Metric]:
            return list(counts.metrics())

    registry = CollectorRegistry()
    registry.register(Read())
    return generate_latest(registry).decode().splitlines()


def test_what_was_never_counted_is_told_as_none_where_it_has_no_labels() -> None:
    told = lines(Counts(FAMILIES))
    assert "shown_total 0.0" in told
    assert "sizes_count 0.0" in told
    assert not [line for line in told if line.startswith(("kinds_total", "waits_count"))]


@given(
    st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.100001, 1.0, 9.0, 10.0, 11.0, 1e9]) | st.floats(0, 20), max_size=20),
    st.lists(st.sampled_from(["a", 'q"\n\\', "é"]), max_size=10),
)
def test_the_text_is_that_of_prometheus_own_metrics(values: list[float], kinds: list[str]) -> None:
    registry, counts = CollectorRegistry(), Counts((BY_KIND, WAITS))
    counter = Counter(BY_KIND.name, BY_KIND.help, BY_KIND.labels, registry=registry)
    histogram = Histogram(WAITS.name, WAITS.help, WAITS.labels, buckets=WAITS.bounds, registry=registry)
    for value in values:
        counts.observe(WAITS, value, labels=("/rank",))
        histogram.labels("/rank").observe(value)
    for kind in kinds:
        counts.add(BY_KIND, (kind,))
        counter.labels(kind).inc()
    reference = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    assert lines(counts) == reference


def test_the_counts_of_all_processes_of_a_folder_are_added_whichever_is_asked(tmp_path: Path) -> None:
    one, other = Counts(FAMILIES, tmp_path), Counts(FAMILIES, tmp_path)
    for counts, amount in ((one, 2), (other, 3)):
        counts.add(SHOWN, amount=amount)
        counts.add_each(BY_KIND, [("click",)] * amount)
        counts.observe(WAITS, amount, labels=("/rank",))
        counts.flush()
    assert lines(one) == lines(other)
    assert {"shown_total 5.0", 'kinds_total{kind="click"} 5.0', 'waits_sum{route="/rank"} 5.0'} <= set(lines(one))
    assert 'waits_bucket{le="10.0",route="/rank"} 2.0' in lines(one)


def test_what_a_process_told_still_counts_when_it_has_ended(tmp_path: Path) -> None:
    ended = Counts(FAMILIES, tmp_path)
    ended.add(SHOWN, amount=7)
    ended.flush()
    del ended
    assert "shown_total 7.0" in lines(Counts(FAMILIES, tmp_path))


def test_telling_twice_counts_once_and_leaves_one_file_for_a_process(tmp_path: Path) -> None:
    one, other = Counts(FAMILIES, tmp_path), Counts(FAMILIES, tmp_path)
    for _ in range(3):
        one.add(SHOWN)
        one.flush()
        one.flush()
    assert "shown_total 3.0" in lines(other)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    counts = Counts(FAMILIES, tmp_path)
    counts.flush()
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    counts.flush()
    assert file.stat().st_ino == before
    counts.add(SHOWN)
    counts.flush()
    assert next(tmp_path.iterdir()).read_bytes() != b""
    assert "shown_total 1.0" in lines(Counts(FAMILIES, tmp_path))


def test_a_folder_that_cannot_be_written_loses_no_count_and_fails_no_scrape(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    counts, metrics = Counts(FAMILIES, folder), Metrics(folder)
    counts.add(SHOWN)
    metrics.impressions_kept(3)
    with pytest.raises(OSError, match="metrics"):
        counts.flush()
    assert b"appshelf_impressions_total 3.0" in metrics.expose(lambda: None)
    folder.mkdir()
    counts.flush()
    assert "shown_total 1.0" in lines(Counts(FAMILIES, folder))


def test_what_one_scrape_showed_no_later_scrape_of_another_process_takes_back(tmp_path: Path) -> None:
    one, other = Metrics(tmp_path), Metrics(tmp_path)
    seen = []
    for turn in range(6):
        asked, idle = (one, other) if turn % 2 else (other, one)
        asked.impressions_kept(1)
        idle.impressions_kept(1)
        found = re.search(r"^appshelf_impressions_total (\S+)$", asked.expose(lambda: None).decode(), re.MULTILINE)
        seen.append(float(found[1]) if found else 0.0)
    assert seen == sorted(seen)
    other.flush()
    assert b"appshelf_impressions_total 12.0" in one.expose(lambda: None)


def test_threads_that_count_at_once_lose_nothing() -> None:
    counts = Counts(FAMILIES)

    def count() -> None:
        for _ in range(2_000):
            counts.add(SHOWN)
            counts.observe(WAITS, 0.5, labels=("/rank",))

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {"shown_total 8000.0", 'waits_sum{route="/rank"} 4000.0'} <= set(lines(counts))
