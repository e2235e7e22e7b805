"""A run as JSON values and tensors, and back: all that its next step depends on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from model.checkpoint import Snapshot
from model.run import Kept, Run, device_of

NET, POSITION, STATE, BEST, BESIDE, RANDOM = "net/", "position/", "optimizer/", "best/", "best_state/", "random"
RANDOM_THERE = "random_cuda"
THREADS = "threads"


def snapshot(run: Run) -> Snapshot:
    """The run as it stands after a step: weights, optimizers, random state, the best so far, and how far it is."""
    learner, best = run.learner, run.best
    tensors = _named(NET, learner.net.state_dict()) | _random(device_of(learner.net))
    if learner.position is not None:
        tensors |= _named(POSITION, learner.position.state_dict())
    optimizers = []
    for place, optimizer in enumerate(learner.optimizers):
        facts, state = _of_optimizer(optimizer)
        optimizers.append(facts)
        tensors |= _named(f"{STATE}{place}/", state)
    if best is not None:
        tensors |= _named(BEST, best.weights) | _named(BESIDE, best.state)
    facts = {
        "phase": run.watch.phase, "epoch": run.epoch, "step": run.step, "total": run.total, "failures": run.failures,
        "history": run.history, "optimizers": optimizers, THREADS: torch.get_num_threads(),
        "best": None if best is None else {"epoch": best.epoch, "auc": best.auc},
    }  # fmt: skip
    return Snapshot(facts, tensors)


def restore(run: Run, kept: Snapshot) -> None:
    """Make a fresh run of the same training the one that was kept, torch's random state included, in place."""
    facts, tensors, learner = kept.facts, kept.tensors, run.learner
    learner.net.load_state_dict(_below(NET, tensors))
    if learner.position is not None:
        learner.position.load_state_dict(_below(POSITION, tensors))
    for place, optimizer in enumerate(learner.optimizers):
        _into_optimizer(optimizer, facts["optimizers"][place], _below(f"{STATE}{place}/", tensors))
    run.epoch, run.step, run.failures = facts["epoch"], facts["step"], facts["failures"]
    run.total, run.history = facts["total"], [dict(record) for record in facts["history"]]
    if best := facts["best"]:
        run.best = Kept(best["epoch"], best["auc"], _below(BEST, tensors), _below(BESIDE, tensors))
    torch.set_rng_state(tensors[RANDOM])
    if RANDOM_THERE in tensors:
        torch.cuda.set_rng_state(tensors[RANDOM_THERE])


@contextmanager
def threads_of(kept: Snapshot | None, say: Callable[[str], None]) -> Iterator[None]:
    """Run on as many threads as what was kept did, since sums of another number of them differ in their last bits.

    Where there are fewer, it runs on those and says so. None for a run that begins.
    """
    here, had = torch.get_num_threads(), (kept.facts.get(THREADS) if kept else None) or torch.get_num_threads()
    if had > here:
        say(
            f"it was on {had} threads and is on {here} now, so its weights will differ in their last bits from those "
            f"of a training that was never interrupted; OMP_NUM_THREADS={had} gives the same"
        )
    torch.set_num_threads(min(had, here))
    try:
        yield
    finally:
        torch.set_num_threads(here)


def _random(device: torch.device) -> dict[str, Tensor]:
    """The state of the generators that a step on this device draws from."""
    there = {} if device.type == "cpu" else {RANDOM_THERE: torch.cuda.get_rng_state()}
    return {RANDOM: torch.get_rng_state()} | there


def _of_optimizer(optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An optimizer's options and what else is plain, and its tensors by parameter and kind: `3/exp_avg`."""
    whole = optimizer.state_dict()
    tensors = {
        f"{place}/{kind}": value.clone()
        for place, kinds in whole["state"].items()
        for kind, value in kinds.items()
        if isinstance(value, Tensor)
    }
    plain = {
        f"{place}/{kind}": value
        for place, kinds in whole["state"].items()
        for kind, value in kinds.items()
        if not isinstance(value, Tensor)
    }
    return {"groups": whole["param_groups"], "plain": plain}, tensors


def _into_optimizer(optimizer: Optimizer, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**facts["plain"], **tensors}.items():
        place, kind = name.split("/", 1)
        state.setdefault(int(place), {})[kind] = value
    groups = [
        {name: tuple(value) if isinstance(now.get(name), tuple) else value for name, value in group.items()}
        for group, now in zip(facts["groups"], optimizer.param_groups, strict=True)
    ]  # JSON knows no tuples, and Adam's betas are one
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
