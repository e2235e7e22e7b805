"""The full request path against what others would have written, at the reference work: ratios within one run.

    python -m bench.serving [--rounds 3] [--seconds 4] [--candidates 50 200 1000] [--connections 1 8 32]
                            [--only fast exact openvino-bf16] [--cache FOLDER] [--json FILE]

Everything made (the home with its trained network, the peers' environments) is kept under --cache and made once. Each
contestant's ten are compared with the plain fp32 scorer's before anything is timed; then, round by round, each is
started, warmed until it has seen the users, and loaded by wrk with the same bodies. The load generator runs on the
same machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import wrk
from bench.contestants import CONTESTANTS, Contestant, Running, ask, running
from bench.reference import CANDIDATES, Reference, Work, prepare
from bench.serving_report import report
from bench.serving_table import Measured, Started
from bench.tens import CANDIDATES as CHECKED_CANDIDATES
from bench.tens import CHECKED, compare, reference_tens, ten_of

LEAST_OVERLAP = 0.95
"""Of a bf16 contestant's ten with the reference's; an fp32 one's must be the same ten in the same order."""

WARM_S = 8.0
TRIES = 3
LOPSIDED = 3
SETTLE_S = 2.0
QUIET_CPU_S, QUIET_LIMIT_S = 0.05, 60.0
COUNTED = ("impressions", "impressions_dropped", "degraded_answers")


class Disagreement(RuntimeError):
    """A contestant does not do the same work."""


@dataclass(frozen=True)
class Plan:
    """What is measured: rounds, seconds a run, candidates a request and connections."""

    rounds: int
    seconds: float
    candidates: Sequence[int]
    connections: Sequence[int]
    cache: Path


def check(contestant: Contestant, reference: Reference, *, cache: Path) -> str:
    """One line on how its first CHECKED answers agree with the reference's. Raises Disagreement."""
    with running(contestant, reference, cache=cache) as server:
        bodies = reference.bodies(CHECKED_CANDIDATES)[:CHECKED]
        found = compare([ten_of(ask(server.port, body)[1]) for body in bodies], reference_tens(reference))
    line = (
        f"{contestant.name:15} same ten {found.same:6.1%}, overlap {found.overlap:6.1%}, score error {found.error:.1e}"
    )
    if found.overlap < LEAST_OVERLAP or (contestant.bits == 32 and found.same < 1):
        raise Disagreement(f"{line}: not the same work")
    return line


def measure(server: Running, load: wrk.Load) -> tuple[wrk.Outcome, float, tuple[int, ...]]:
    """One run: its outcome, processor milliseconds a request, and how the connections lay over the processes."""
    before = server.family.cpu_s()
    run = wrk.start(f"http://127.0.0.1:{server.port}/rank", load)
    time.sleep(load.seconds * 0.8)
    balance = server.family.connections(server.port)
    outcome = wrk.finish(run)
    return outcome, (server.family.cpu_s() - before) * 1e3 / max(outcome.requests, 1), balance


def lopsided(balance: Sequence[int], connections: int) -> bool:
    """Whether one of two workers has less than one connection in LOPSIDED + 1, where there are enough of them."""
    return connections >= 8 and min(balance[1:2] or [0]) * (LOPSIDED + 1) < connections


def turn(contestant: Contestant, reference: Reference, plan: Plan, *, number: int) -> Iterator[Measured | Started]:
    """Everything that is measured of one contestant in one round."""
    with running(contestant, reference, cache=plan.cache) as server:
        await_quiet(server)
        for candidates in plan.candidates:
            bodies = reference.bodies_file(candidates)
            measure(server, wrk.Load(bodies, 32, WARM_S))
            for connections in plan.connections:
                load = wrk.Load(bodies, connections, plan.seconds)
                outcome, cpu_ms, balance = balanced(server, load)
                yield Measured(
                    contestant=contestant.name,
                    round=number,
                    candidates=candidates,
                    connections=connections,
                    per_second=outcome.per_second,
                    p50_ms=outcome.p50_ms,
                    p99_ms=outcome.p99_ms,
                    p999_ms=outcome.p999_ms,
                    cpu_ms=cpu_ms,
                    refused=outcome.refused,
                    failed=outcome.failed,
                    balance=balance,
                )
        counted = counts(server.port) if contestant.ours else {}
        yield Started(contestant.name, number, server.start_s, server.family.pss_mib(), counted)


def await_quiet(server: Running) -> None:
    """Wait until the server has done what it does after its first answer: processes that import, memory given back.

    Gives up after QUIET_LIMIT_S: what a server does all the time is part of what it costs.
    """
    until, before = time.monotonic() + QUIET_LIMIT_S, server.family.cpu_s()
    while time.monotonic() < until:
        time.sleep(1.0)
        now = server.family.cpu_s()
        if now - before < QUIET_CPU_S:
            return
        before = now


def counts(port: int) -> dict[str, float]:
    """The sum of each of COUNTED over its labels, once all workers have told theirs."""
    time.sleep(SETTLE_S)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = [line.split() for line in response.read().decode().splitlines() if not line.startswith("#")]
    return {
        name: sum(float(value) for key, value, *_ in lines if key.partition("{")[0] == f"appshelf_{name}_total")
        for name in COUNTED
    }


def balanced(server: Running, load: wrk.Load) -> tuple[wrk.Outcome, float, tuple[int, ...]]:
    """A run whose connections lay over both workers, of TRIES at most.

    Servers that share one listening socket now and then leave all connections to one worker; they are not held to that.
    """
    for _ in range(TRIES):
        outcome, cpu_ms, balance = measure(server, load)
        if not lopsided(balance, load.connections):
            break
    return outcome, cpu_ms, balance


def run(chosen: Sequence[Contestant], reference: Reference, plan: Plan) -> Iterator[Measured | Started]:
    """Every round, whose contestants begin with another each time; one that fails is named and left out of it."""
    for number in range(plan.rounds):
        first = number % len(chosen)
        for contestant in (*chosen[first:], *chosen[:first]):
            print(f"round {number + 1} of {plan.rounds}: {contestant.name}", file=sys.stderr, flush=True)
            try:
                yield from turn(contestant, reference, plan, number=number)
            except (RuntimeError, OSError) as error:
                print(f"{contestant.name} is left out of round {number + 1}: {error}", file=sys.stderr)


def main() -> None:
    """Prepare, check, measure, and print the tables; --json is written after every run, so that nothing is lost."""
    arguments = _arguments()
    try:
        wrk.program()
    except wrk.WrkMissing as error:
        raise SystemExit(str(error)) from error
    chosen = [one for one in CONTESTANTS if not arguments.only or one.name in arguments.only]
    plan = Plan(arguments.rounds, arguments.seconds, arguments.candidates, arguments.connections, arguments.cache)
    plan.cache.mkdir(parents=True, exist_ok=True)
    reference = prepare(plan.cache / f"reference-{arguments.apps}", Work(apps=arguments.apps))
    for contestant in list(chosen):
        try:
            print(check(contestant, reference, cache=plan.cache), flush=True)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f"{contestant.name} is left out: {error}", flush=True)
            chosen.remove(contestant)
    found: list[Measured | Started] = []
    for one in run(chosen, reference, plan):
        found.append(one)
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(record) for record in found], indent=1), encoding="utf-8")
    print(report(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one run")
    parser.add_argument("--candidates", type=int, nargs="+", default=CANDIDATES)
    parser.add_argument("--connections", type=int, nargs="+", default=(1, 8, 32))
    parser.add_argument("--only", nargs="+", choices=[one.name for one in CONTESTANTS], help="these contestants")
    parser.add_argument("--apps", type=int, default=Work.apps)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
