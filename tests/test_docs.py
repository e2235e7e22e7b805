"""The documentation says what the code does."""

import json
import re
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from pydantic import BaseModel

from model.data.synthetic import schema as synthetic_schema
from model.optim import RECIPES
from model.schema import Source, dump_schema, parse_schema, read_schema
from model.train_config import TrainConfig
from model.zoo import ARCHITECTURES, check_params
from service import cli
from service.admission import settable
from service.api.admin_messages import ReloadRequest
from service.api.event_messages import EventMessage, EventsRequest
from service.api.messages import AppMessage, AppsMessage, RankRequest, UserMessage, UsersMessage
from service.comparing.plan import plan_of
from service.serve import EXAMPLE
from service.settings import Settings
from tests.architecture import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ZOO = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
PAGES = ("operations", "decisions", "benchmarks", "zoo")
BODIES: dict[str, type[BaseModel]] = {
    "/rank": RankRequest,
    "/users": UsersMessage,
    "/apps": AppsMessage,
    "/admin/reload": ReloadRequest,
    "/events": EventsRequest,
}
RECORDS: dict[str, type[BaseModel]] = {"/users": UserMessage, "/apps": AppMessage, "/events": EventMessage}


def section(title: str) -> str:
    """One section of the README, its heading left out."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def curls(text: str) -> Iterator[tuple[str, str]]:
    """The path and body of every curl that sends one."""
    for command in re.findall(r"curl .*?-d\s+'.*?'", text, re.DOTALL):
        yield re.findall(r"http://[^/\s]+(/\S*)", command)[0], command.rpartition("-d")[2].strip().strip("'")


def tree() -> list[str]:
    """Every path of the README's annotated tree; a deeper indentation lies in the folder above it."""
    paths: list[str] = []
    folders: list[str] = []
    for line in section("The tree").split("```")[1].strip("\n").splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        paths.append("".join(folders))
    return paths


def test_the_settings_table_is_what_the_code_says() -> None:
    said = [line for line in section("Settings").splitlines() if line.startswith("| `")]
    true = [f"| `{row.name}` | `{row.default}` | {row.description} |" for row in Settings().describe()]
    assert said == [line.replace("| `` |", "| |") for line in true]


@pytest.mark.parametrize("text", [README, OPERATIONS, ZOO], ids=["README", "operations", "zoo"])
def test_every_command_named_exists(text: str) -> None:
    named = set(re.findall(r"`?appshelf ([a-z]+)\b(?= |`|\n)", text))
    assert named <= {*cli.VERBS, "config", "log"}
    assert named >= {"import", "train", "promote"} or text is not README


def test_every_family_is_in_the_zoos_table_and_the_pasted_comparison_is_one() -> None:
    families = ZOO.partition("\n## The families\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", families, re.MULTILINE) == [*ARCHITECTURES]
    comparing = ZOO.partition("\n## Comparing\n")[2]
    for pasted in re.findall(r"```yaml\n(.*?)```", comparing, re.DOTALL):
        assert len(plan_of(yaml.safe_load(pasted), {}).contestants) > 1


def test_the_zoo_names_every_option_of_a_training_of_each_family_and_of_each_recipe() -> None:
    options = ZOO.partition("\n## The options\n")[2].partition("\n## ")[0]
    tables = [re.findall(r"^\| (`.*) \|$", part, re.MULTILINE) for part in options.split("\n|---")[1:]]
    config, params, recipes = ([re.findall(r"`(\w+)`", row) for row in table] for table in tables)
    told = [name for row, line in zip(tables[0], config, strict=True) for name in line if name in row.split(" | ")[0]]
    assert sorted(told) == sorted(TrainConfig.model_fields)
    for name, family in ARCHITECTURES.items():
        (row,) = (row for row in params if name in row)
        assert {*family.params.model_fields} == {*row} - {*ARCHITECTURES} - {"false"}
    for row in recipes:
        assert {*RECIPES[row[0]].model_fields} == {*row[1:]}
    (pasted,) = re.findall(r"```yaml\n(.*?)```", options, re.DOTALL)
    config_pasted = TrainConfig.model_validate(yaml.safe_load(pasted))
    check_params(config_pasted.architecture, config_pasted.net_params())


def test_every_verb_is_in_the_readme() -> None:
    verbs = {*cli.VERBS, "config", "log"}
    assert {verb for verb in verbs if f"appshelf {verb}" in README} == verbs


def test_every_target_named_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z0-9-]+)", README)) <= targets
    assert targets >= {"install", "lint", "test", "e2e", "bench", "serve"}


def test_every_curl_sends_a_body_that_is_accepted() -> None:
    found = list(curls(README))
    assert {path for path, _ in found} == set(BODIES)
    for path, body in found:
        BODIES[path].model_validate_json(body)
        for record in json.loads(body)[path[1:]] if path in RECORDS else ():
            RECORDS[path].model_validate(record)


def test_the_first_curl_fits_the_synthetic_store() -> None:
    path, body = next(curls(README))
    asked = json.loads(body)
    assert path == "/rank"
    assert asked["k"] == 10
    assert set(asked["context"]) == set(settable(synthetic_schema(), Source.CONTEXT))


def test_the_pasted_answer_is_an_answer_of_ten() -> None:
    (pasted,) = re.findall(r"```json\n(.*?)```", section("Two commands"), re.DOTALL)
    answer = json.loads(pasted)
    assert [item["rank"] for item in answer["items"]] == list(range(1, 11))
    assert all(0 < item["score"] < 1 for item in answer["items"])


def test_what_the_server_tells_to_try_is_accepted() -> None:
    RankRequest.model_validate_json(EXAMPLE)


def test_every_path_of_the_tree_exists() -> None:
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_every_module_is_in_the_tree() -> None:
    files = {path for path in tree() if path.endswith(".py")}
    modules = {
        str(file.relative_to(ROOT))
        for package in ("model", "service", "bench")
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert modules - files == set()


@pytest.mark.parametrize(
    "name", ["README.md", "docs/operations.md", "docs/decisions.md", "docs/benchmarks.md", "docs/zoo.md"]
)
def test_every_file_that_a_page_points_to_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:docs|examples|bench|docker|tests|model|service)/[\w./]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_changelog_is_about_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert newest == project["version"]


def test_the_example_schema_is_one_and_survives_being_written() -> None:
    schema = read_schema(ROOT / "examples" / "schema.yaml")
    assert parse_schema(dump_schema(schema)) == schema


def test_the_lock_pins_everything_and_torch_first() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins[0].startswith("torch==")
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)


def test_the_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    normal = {name.lower().replace("_", "-") for name in pinned}
    assert {name.partition("[")[0].lower().replace("_", "-") for name in wanted} <= normal


def test_every_benchmark_named_exists() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python -m bench\.(\w+)", text))
    assert named
    assert {name for name in named if not (ROOT / "bench" / f"{name}.py").exists()} == set()
