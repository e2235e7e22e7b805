import pytest

from bench.peers.train_rows import MARK
from bench.train import CONTESTANTS, PEERS
from bench.train_table import Trained, parsed, report

PRINTED = f'chatter\n{MARK}{{"samples": 1, "wall_s": 9, "cpu_s": 9, "peak_mib": 1}}\nmore\n' + (
    f'{MARK}{{"samples": 8000, "wall_s": 4.0, "cpu_s": 2.0, "peak_mib": 300.5}}\n'
)


def trained(name: str, number: int, *, per_core: float, work: str = "paper") -> Trained:
    return Trained(name, work, number, samples=1000, wall_s=2000 / per_core, cpu_s=1000 / per_core, peak_mib=500)


def test_the_last_figures_that_a_process_printed_count() -> None:
    one = parsed(PRINTED, "bf16", "paper", 2)

    assert (one.contestant, one.work, one.round, one.samples) == ("bf16", "paper", 2, 8000)
    assert (one.per_core, one.per_second, one.peak_mib) == (4000, 2000, 300.5)


def test_a_process_without_figures_is_named_with_the_end_of_what_it_printed() -> None:
    with pytest.raises(ValueError, match=r"fuxictr printed no figures for frappe: \.\.\.nothing here"):
        parsed("nothing here", "fuxictr", "frappe", 0)


def test_each_rounds_ratio_is_over_the_peer_that_is_fastest_in_the_median() -> None:
    runs = [
        trained("bf16", 0, per_core=300),
        trained("estimator", 0, per_core=100),
        trained("deepctr-torch", 0, per_core=110),
        trained("bf16", 1, per_core=500),
        trained("estimator", 1, per_core=200),
        trained("deepctr-torch", 1, per_core=60),
    ]

    text = report(runs, peers=["estimator", "deepctr-torch"])

    line = next(line for line in text.splitlines() if line.startswith("bf16"))
    assert "over estimator" in text
    assert line.split()[-2:] == ["2.75", "[2.5-3]"]
    assert "[300-500]" in line


def test_a_work_without_peers_has_figures_and_no_ratio() -> None:
    text = report([trained("bf16", 0, per_core=300, work="crosses")], peers=PEERS)

    assert text.splitlines()[1].split()[-1] == "-"


def test_every_peer_has_an_environment_of_its_own_and_a_work() -> None:
    peers = [CONTESTANTS[name] for name in PEERS]

    assert len({peer.environment.name for peer in peers if hasattr(peer, "environment")}) == len(PEERS)
    assert all(peer.works for peer in peers)
