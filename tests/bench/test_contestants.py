"""A contestant with another allocator starts with it, or says what is missing."""

import ctypes.util

import pytest

from bench.contestants import CONTESTANTS, Contestant


def test_a_contestant_with_an_allocator_of_the_system_is_started_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.2")

    assert Contestant("fast", 16, allocator="jemalloc").preload == {"LD_PRELOAD": "libjemalloc.so.2"}
    assert Contestant("fast", 16).preload == {}


def test_an_allocator_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)

    with pytest.raises(RuntimeError, match="fast needs libjemalloc, which is not installed"):
        _ = Contestant("fast", 16, allocator="jemalloc").preload


def test_names_of_contestants_are_their_own() -> None:
    assert len({one.name for one in CONTESTANTS}) == len(CONTESTANTS)
