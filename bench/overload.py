"""What becomes of a server that is offered more than it can do: open-loop load below, at and past its capacity.

    python -m bench.overload [--factors 0.6 1 1.5 2] [--seconds 10] [--rounds 1] [--precision auto] [--cache FOLDER]
                             [--json FILE]

The reference work, two workers with the service's own limits. The capacity is what the same generator finds with every
connection busy, measured first; each factor of it is then offered at Poisson distances. Latency counts from when a
request was due. The generator runs on the same machine and takes its share of it.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.openloop import Answers, Pace
from bench.ours import OK, REFUSED, Setup, Target, quantiles_ms, served
from bench.reference import Work, prepare
from bench.serving_table import table

WARM_S, REST_S = 3.0, 2.0
HEAD = (
    *("factor", "offered/s", "goodput/s", "p50 ms", "p99", "p99.9"),
    *("refused", "in ms", "p99", "no hint", "failed", "late ms", "CPU ms"),
)


@dataclass(frozen=True)
class Offered:
    """What became of one offer. factor: of the capacity; a second, shares, milliseconds; late_ms: the generator's.

    refused: with a 503; unhinted: of those, without a Retry-After; failed: every other answer, and none.
    """

    round: int
    factor: float
    offered: float
    goodput: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    refused: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    unhinted: int
    failed: int
    late_ms: float
    cpu_ms: float


def offer(target: Target, rate: float, *, seconds: float) -> tuple[Answers, float]:
    """Everything heard of an open-loop load, and the processor seconds that the server took for it."""
    before = target.family.cpu_s()
    answers = target.load(Pace(rate, seconds)).finish()
    return answers, target.family.cpu_s() - before


def became(answers: Answers, *, number: int, factor: float, cpu_s: float) -> Offered:
    """The figures of one offer."""
    good, refused = answers.only(answers.status == OK), answers.only(answers.status == REFUSED)
    sent, seconds = answers.due.size, float(np.ptp(answers.due)) if answers.due.size else float("nan")
    p50, p99, p999 = quantiles_ms(good.latency_s, (0.5, 0.99, 0.999))
    refusal_p50, refusal_p99 = quantiles_ms(refused.latency_s, (0.5, 0.99))
    return Offered(
        round=number,
        factor=factor,
        offered=sent / seconds,
        goodput=good.due.size / seconds,
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        refused=refused.due.size / max(sent, 1),
        refusal_p50_ms=refusal_p50,
        refusal_p99_ms=refusal_p99,
        unhinted=int((refused.hinted == 0).sum()),
        failed=sent - good.due.size - refused.due.size,
        late_ms=quantiles_ms(answers.late_s, (0.99,))[0],
        cpu_ms=cpu_s * 1e3 / max(good.due.size, 1),
    )


def run(target: Target, factors: Sequence[float], *, seconds: float, rounds: int) -> Iterator[Offered | float]:
    """Each round its capacity, then every factor of it."""
    target.capacity(seconds=WARM_S)
    for number in range(rounds):
        found = target.capacity(seconds=seconds)
        yield found
        for factor in factors:
            time.sleep(REST_S)
            answers, cpu_s = offer(target, factor * found, seconds=seconds)
            yield became(answers, number=number, factor=factor, cpu_s=cpu_s)


def report(capacities: Sequence[float], offers: Sequence[Offered]) -> str:
    """The table, and how much of the peak is left where most was offered; that may be more than the capacity found."""
    rows = [
        (
            f"{one.factor:g}",
            *(f"{value:.0f}" for value in (one.offered, one.goodput)),
            *(f"{value:.1f}" for value in (one.p50_ms, one.p99_ms, one.p999_ms)),
            f"{one.refused:.1%}",
            *(f"{value:.1f}" for value in (one.refusal_p50_ms, one.refusal_p99_ms)),
            *(one.unhinted, one.failed),
            *(f"{value:.2f}" for value in (one.late_ms, one.cpu_ms)),
        )
        for one in sorted(offers, key=lambda one: (one.factor, one.round))
    ]
    peak = max((*capacities, *(one.goodput for one in offers)))
    most = max(one.factor for one in offers)
    left = [one.goodput / peak for one in offers if one.factor == most]
    times = [one.offered / peak for one in offers if one.factor == most]
    return "\n".join(
        [
            f"capacity {', '.join(f'{value:.0f}' for value in capacities)} requests/s with every connection busy",
            table(HEAD, rows),
            f"goodput at {most:g} times the capacity: {np.median(left):.2f} of the peak, "
            f"where {np.median(times):.2f} times the peak was offered",
        ]
    )


def main() -> None:
    """Prepare, offer, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=float, nargs="+", default=(0.6, 1.0, 1.5, 2.0))
    parser.add_argument("--seconds", type=float, default=10.0, help="of one offer")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=Setup.workers)
    parser.add_argument("--precision", choices=("auto", "exact", "fast"), default="auto")
    parser.add_argument("--apps", type=int, default=Work.apps)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    reference = prepare(arguments.cache / f"reference-{arguments.apps}", Work(apps=arguments.apps))
    with served(Setup(reference, arguments.workers, arguments.precision)) as target:
        found = list(run(target, arguments.factors, seconds=arguments.seconds, rounds=arguments.rounds))
    capacities = [one for one in found if isinstance(one, float)]
    offers = [one for one in found if isinstance(one, Offered)]
    print(report(capacities, offers))
    if arguments.json:
        content = {"capacity": capacities, "offers": [asdict(one) for one in offers]}
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
