"""The house style holds, and each of its rules rejects a small tree that breaks it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import Modules, Rule

RULES_AND_BREACHES: list[tuple[Rule, Modules]] = [
    (architecture.the_model_imports_nothing_impure, {"model.gate": "from service.settings import Settings"}),
    (architecture.the_model_imports_nothing_impure, {"model.gate": "def f():\n    import time"}),
    (architecture.the_model_touches_no_environment_clock_or_terminal, {"model.gate": "print(1)"}),
    (architecture.the_model_touches_no_environment_clock_or_terminal, {"model.a": "import os\nos.environ['A']"}),
    (architecture.the_model_touches_no_environment_clock_or_terminal, {"model.a": "datetime.datetime.now()"}),
    (
        architecture.architectures_import_layers_and_nothing_else_of_ours,
        {"model.architectures.fm": "from model.optim import Ftrl", "model.optim": ""},
    ),
    (
        architecture.imports_point_down_the_layers,
        {"service.ranker": "from service.api.messages import Rank", "service.api.messages": ""},
    ),
    (
        architecture.imports_point_down_the_layers,
        {"service.registry": "from service import rollout", "service.rollout": "", "service": ""},
    ),
    (
        architecture.only_the_container_names_a_backend,
        {"service.ranker": "import service.store.sqlite_features", "service.store.sqlite_features": ""},
    ),
    (architecture.imports_are_absolute, {"model.gate": "from .metrics import auc"}),
    (
        architecture.imports_make_no_cycle,
        {"model.a": "import model.b", "model.b": "import model.c", "model.c": "import model.a"},
    ),
    (architecture.files_are_short, {"model.long": "1\n" * 301}),
    (architecture.files_are_short, {"model.a": "1\n" * 111, "model.b": "1\n" * 120}),
    (architecture.functions_are_short, {"model.long": "def f():\n" + "    1\n" * 60}),
    (architecture.functions_are_short, {"model.wordy": ("def f():\n" + "    1\n" * 9) * 3}),
    (architecture.functions_are_short, {"model.tail": "def f():\n    1\n" * 5 + ("def f():\n" + "    1\n" * 26) * 4}),
    (architecture.functions_take_few_parameters, {"model.a": "def f(a, b, *, c, d, e): ..."}),
    (architecture.functions_take_few_parameters, {"model.a": "class A:\n    def f(self, a, b, c=1): ..."}),
    (architecture.names_say_something, {"service.store.utils": ""}),
    (architecture.nothing_is_unpickled, {"model.a": "import pickle"}),
    (architecture.nothing_is_unpickled, {"model.a": "torch.load(path)"}),
    (architecture.nothing_is_unpickled, {"model.a": "np.load(path, allow_pickle=True)"}),
    (architecture.errors_are_caught_by_name, {"service.ranker": "try: ...\nexcept Exception: ..."}),
    (architecture.errors_are_caught_by_name, {"service.ranker": "try: ...\nexcept: ..."}),
]
RULES = list(dict.fromkeys(rule for rule, _ in RULES_AND_BREACHES))

GUARDED_IMPORT = """
import builtins, importlib, os, socket, sys, threading, traceback
root, names = sys.argv[1], sys.argv[2:]
for name in names:  # once freely, so that what a library does at its own import is over
    importlib.import_module(name)
for name in [name for name in sys.modules if name.split(".")[0] in ("model", "service")]:
    del sys.modules[name]

def refuse(what):
    def guard(*args, **kwargs):
        if traceback.extract_stack()[-3].filename.startswith((f"{root}/model/", f"{root}/service/")):
            sys.exit(f"{what} while importing {name}")
    return guard

def watched(owner, attribute, what):
    original, guard = getattr(owner, attribute), refuse(what)
    def call(*args, **kwargs):
        guard()
        return original(*args, **kwargs)
    setattr(owner, attribute, call)

watched(type(os.environ), "__getitem__", "the environment is read")
watched(type(os.environ), "get", "the environment is read")
watched(type(os.environ), "__contains__", "the environment is read")
watched(type(os.environ), "__iter__", "the environment is read")
watched(os, "getenv", "the environment is read")
watched(socket, "socket", "a socket is opened")
watched(builtins, "open", "a file is opened")
watched(threading.Thread, "start", "a thread is started")
threads = threading.active_count()
for name in names:
    importlib.import_module(name)
assert threading.active_count() == threads
"""


@pytest.fixture(scope="module")
def modules() -> Modules:
    return architecture.read_modules("model", "service")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule, modules: Modules) -> None:
    assert rule(modules) == []


@pytest.mark.parametrize(("rule", "breach"), RULES_AND_BREACHES)
def test_the_rule_rejects_a_breach(rule: Rule, breach: Modules) -> None:
    assert rule(breach)


def test_a_docstring_does_not_count_as_length() -> None:
    documented = 'def f():\n    """One.\n\n    Two.\n    """\n    return 1'
    assert [architecture.length(one) for one in architecture.functions(documented)] == [2]


def test_an_import_for_its_type_alone_closes_no_cycle() -> None:
    typed = "if TYPE_CHECKING:\n    import model.b"
    assert architecture.imports_make_no_cycle({"model.a": typed, "model.b": "import model.a"}) == []


def test_importing_any_module_opens_nothing_and_reads_no_environment(modules: Modules) -> None:
    names = [name for name in modules if not name.endswith("__main__")]
    assert guarded_import(architecture.ROOT, *names) == ""


@pytest.mark.parametrize(
    ("source", "breach"),
    [
        ("import os\nHOME = os.environ['PATH']", "the environment is read"),
        ("import os\nHOME = os.environ.get('HOME')", "the environment is read"),
        ("import os\nHOME = os.getenv('HOME')", "the environment is read"),
        ("import socket\nsocket.socket()", "a socket is opened"),
        ("open(__file__)", "a file is opened"),
        ("import threading\nthreading.Thread(target=print).start()", "a thread is started"),
    ],
)
def test_the_guard_rejects_work_at_import(source: str, breach: str, tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "busy.py").write_text(source)
    assert breach in guarded_import(tmp_path, "service.busy")


def guarded_import(root: Path, *names: str) -> str:
    """What an import of these modules under guard complains about; empty when nothing."""
    command = [sys.executable, "-c", GUARDED_IMPORT, str(root), *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    return done.stderr if done.returncode else ""
