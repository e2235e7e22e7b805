"""The rules of the house as functions: source trees in, one sentence for each breach out."""

import ast
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parent.parent

Modules = Mapping[str, str]
"""Module name -> source text."""

Rule = Callable[[Modules], list[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef

PURE_MODEL_MAY_NOT_IMPORT = {
    "service", "time", "logging", "sqlite3", "socket", "http", "urllib", "requests", "httpx", "fastapi", "starlette",
    "uvicorn", "redis", "huey", "subprocess", "random", "typer", "rich", "prometheus_client", "pydantic_settings",
}  # fmt: skip
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "core"}

LAYERS = [
    {"service.cli", "service.commands", "service.serve", "service.asgi", "service.__main__"},
    {"service.api"},
    {f"service.jobs.{name}" for name in ("asking", "attending", "child", "demo", "desk", "process", "retrain")},
    {"service.lifecycle", "service.importing", "service.demo"},
    {"service.container"},
    {"service.ranker", "service.rollout", "service.jobs"},
    {"service.registry", "service.bundles", "service.engine", "service.catalogue", "service.store"},
]
"""Top first. A module imports from its own layer and from those below; a module not named here is not held to one."""

BOUNDARIES = {
    "service.follower": "a rollout step",
    "service.api.problems": "the 500 handler",
    "service.jobs": "a job",
    "service.background": "a turn beside the requests",
    "service.impressions": "a batch of impressions",
    "service.attempts": "a ranking among others",
}
"""Where `except Exception` may stand, and what it guards."""


def read_modules(*packages: str) -> dict[str, str]:
    """Every module of these packages, by dotted name."""
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return {module_name(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}


def module_name(file: Path) -> str:
    """`model/data/__init__.py` -> `model.data`."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str, package: str) -> bool:
    """True for the package itself and everything in it."""
    return module == package or module.startswith(package + ".")


def imports(source: str, *, for_types: bool = True) -> Iterator[str]:
    """Every module that a source imports, lazily or not; `from a import b` gives both `a` and `a.b`.

    for_types: count those under `if TYPE_CHECKING`, which do not happen at run time.
    """
    for node in _walk(ast.parse(source), for_types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _walk(node: ast.AST, for_types: bool) -> Iterator[ast.AST]:
    yield node
    if for_types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, for_types)


def edges(modules: Modules, *, for_types: bool = True) -> dict[str, set[str]]:
    """Which of `modules` each of them imports; a package counts only where one of its own names is imported."""
    found = {}
    for name, source in modules.items():
        targets = {one for one in imports(source, for_types=for_types) if one in modules and one != name}
        found[name] = {one for one in targets if not any(within(other, one) for other in targets - {one})}
    return found


def functions(source: str) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the end, docstring not counted."""
    assert function.end_lineno is not None
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def the_model_imports_nothing_impure(modules: Modules) -> list[str]:
    """`model/` knows no HTTP, store, process, clock or log."""
    return [
        f"{name} imports {target}"
        for name, source in modules.items()
        for target in sorted(set(imports(source)))
        if within(name, "model") and target.split(".")[0] in PURE_MODEL_MAY_NOT_IMPORT
    ]


def the_model_touches_no_environment_clock_or_terminal(modules: Modules) -> list[str]:
    """`model/` calls no print, reads no environment and asks no clock for the time."""
    forbidden = {"print", "input", "os.environ", "os.getenv"}
    clocks = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
    breaches = []
    for name, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
            if within(name, "model") and (text in forbidden or text.endswith(clocks)):
                breaches.append(f"{name} uses {text}")
    return breaches


def architectures_import_layers_and_nothing_else_of_ours(modules: Modules) -> list[str]:
    """A paper's file is its equation: layers and the batch they read, no loss, device, file or other paper."""
    allowed = {f"model.{name}" for name in ("layers", "interactions", "stacked", "tower", "blocks", "batch")}
    return [
        f"{name} imports {target}"
        for name, targets in edges(modules).items()
        for target in sorted(targets)
        if name.startswith("model.architectures.") and target not in allowed
    ]


def imports_point_down_the_layers(modules: Modules) -> list[str]:
    """cli -> api -> lifecycle -> container -> ranker, rollout -> registry, engine, store -> model."""
    rank = {package: depth for depth, layer in enumerate(LAYERS) for package in layer}

    def depth_of(module: str) -> int | None:
        return next((depth for package, depth in rank.items() if within(module, package)), None)

    breaches = []
    for name, targets in edges(modules).items():
        for target in sorted(targets):
            above, below = depth_of(name), depth_of(target)
            if above is not None and below is not None and below < above:
                breaches.append(f"{name} imports {target}, which stands above it")
    return breaches


def only_the_container_names_a_backend(modules: Modules) -> list[str]:
    """Backends are chosen in one file; beside it they may only lean on each other."""
    return [
        f"{name} imports {target}"
        for name, targets in edges(modules).items()
        for target in sorted(targets)
        if is_backend(target) and name != "service.container" and not is_backend(name)
    ]


def is_backend(module: str) -> bool:
    """True for `service.store.sqlite_users` and its like."""
    return module.startswith(("service.store.sqlite", "service.store.redis"))


def imports_are_absolute(modules: Modules) -> list[str]:
    """No `from . import`: a name says where it comes from."""
    return [
        f"{name} imports {target}"
        for name, source in modules.items()
        for target in imports(source)
        if target[:1] == "."
    ]


def imports_make_no_cycle(modules: Modules) -> list[str]:
    """No module imports itself through others; what is imported for its type alone closes no cycle."""
    left = edges(modules, for_types=False)
    while free := [name for name in left if not left[name] & set(left) or not _importers(left, name)]:
        left = {name: targets for name, targets in left.items() if name not in free}
    return [f"{name} is in a cycle: it imports {', '.join(sorted(left[name] & set(left)))}" for name in left]


def _importers(left: Mapping[str, set[str]], name: str) -> list[str]:
    return [other for other, targets in left.items() if name in targets]


def files_are_short(modules: Modules) -> list[str]:
    """Median at most 110 lines, none over 300."""
    sizes = {name: len(source.splitlines()) for name, source in modules.items() if source.strip()}
    breaches = [f"{name} has {size} lines; 300 are allowed" for name, size in sizes.items() if size > 300]
    if sizes and median(sizes.values()) > 110:
        breaches.append(f"the median file has {median(sizes.values())} lines; 110 are allowed")
    return breaches


def functions_are_short(modules: Modules) -> list[str]:
    """Median at most 9 lines, nine in ten at most 25, none over 60; docstrings not counted."""
    sizes = [(f"{name}:{one.name}", length(one)) for name, source in modules.items() for one in functions(source)]
    breaches = [f"{name} has {size} lines; 60 are allowed" for name, size in sizes if size > 60]
    if len(sizes) > 1:
        deciles = quantiles((size for _, size in sizes), n=10, method="inclusive")
        breaches += [f"the median function has {deciles[4]} lines; 9 are allowed"] * (deciles[4] > 9)
        breaches += [f"nine in ten functions have up to {deciles[8]} lines; 25 are allowed"] * (deciles[8] > 25)
    return breaches


def functions_take_few_parameters(modules: Modules) -> list[str]:
    """At most four besides self, and an optional one after the second by keyword; a CLI verb's options do not count."""
    breaches = []
    for name, source in modules.items():
        for function in functions(source):
            arguments = function.args
            positional = [one.arg for one in [*arguments.posonlyargs, *arguments.args]]
            # ctx stands in self's place where autograd calls
            count = len([one for one in positional if one not in ("self", "cls", "ctx")]) + len(arguments.kwonlyargs)
            if count > 4 and not within(name, "service.commands"):
                breaches.append(f"{name}:{function.name} takes {count} parameters; 4 are allowed")
            optional = positional[max(len(positional) - len(arguments.defaults), 3 if "self" in positional else 2) :]
            if optional and arguments.defaults:
                breaches.append(
                    f"{name}:{function.name} takes {', '.join(optional)} by place; only by keyword is allowed"
                )
    return breaches


def names_say_something(modules: Modules) -> list[str]:
    """No drawer modules."""
    return [f"{name} is a drawer" for name in modules if set(name.split(".")) & VAGUE_NAMES]


def nothing_is_unpickled(modules: Modules) -> list[str]:
    """A file can be data only: no pickle, no torch.load without weights_only, no numpy pickles."""
    breaches = []
    for name, source in modules.items():
        breaches += [f"{name} imports {one}" for one in imports(source) if one.split(".")[0] in UNPICKLERS]
        for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
            keywords = {one.arg: ast.unparse(one.value) for one in call.keywords}
            if ast.unparse(call.func) == "torch.load" and keywords.get("weights_only") != "True":
                breaches.append(f"{name} calls torch.load without weights_only=True")
            if keywords.get("allow_pickle", "False") != "False":
                breaches.append(f"{name} allows pickles in {ast.unparse(call.func)}")
    return breaches


def errors_are_caught_by_name(modules: Modules) -> list[str]:
    """`except Exception` stands at named boundaries only."""
    breaches = []
    for name, source in modules.items():
        handlers = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler)]
        caught = {ast.unparse(one.type) if one.type else "everything" for one in handlers}
        named = any(within(name, boundary) for boundary in BOUNDARIES)
        breaches += [
            f"{name} catches {one}" for one in caught & {"Exception", "BaseException", "everything"} if not named
        ]
    return breaches
