"""The image, the compose file and nginx's configuration say what the settings and the API say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.messages import ProblemMessage
from service.serve import DRAIN_S
from service.settings import PREFIX, Settings, variable
from tests.architecture import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
NGINX = (ROOT / "docker" / "nginx.conf").read_text(encoding="utf-8")
REDIS = (ROOT / "deploy" / "kubernetes" / "base" / "redis.yaml").read_text(encoding="utf-8")
DURABLE = {"--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction", '--save ""'}


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_four_roles_and_nginx_alone_is_published_to_this_machine_alone() -> None:
    assert set(SERVICES) == {"nginx", "api", "worker", "redis"}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"nginx"}
    assert SERVICES["nginx"]["ports"] == ["127.0.0.1:${PUBLISH_PORT:-8000}:8000"]


def test_nothing_has_to_be_set_and_every_variable_of_a_role_is_a_setting() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"\$\{(\w+)(?!\w|:-)", text)] == []
    known = {variable(field) for field in Settings.model_fields}
    for role in ("api", "worker"):
        given = SERVICES[role]["environment"]
        assert set(given) <= known
        plain = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in given.items() if value is not None}
        Settings.from_env(plain)
    assert not re.findall(rf"\$\{{({PREFIX}\w+)", "".join(SERVICES["nginx"]["ports"]))


@pytest.mark.parametrize("role", SERVICES)
def test_every_role_runs_without_root_without_capabilities_and_without_writing_its_root(role: str) -> None:
    service = SERVICES[role]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert any(folder.startswith("/tmp:size=") for folder in service["tmpfs"])
    assert "user" in service or "USER 10001:10001" in DOCKERFILE
    assert "healthcheck" in service


def test_only_serving_may_be_reached_without_keys_and_only_behind_nginx() -> None:
    assert [name for name in SERVICES if "APPSHELF_ALLOW_PUBLIC" in SERVICES[name].get("environment", {})] == ["api"]
    assert "APPSHELF_ALLOW_PUBLIC=" not in DOCKERFILE


def test_there_is_time_to_drain() -> None:
    for role in ("nginx", "api", "worker"):
        assert seconds(SERVICES[role]["stop_grace_period"]) >= DRAIN_S + 10


def test_redis_keeps_what_it_acknowledged_and_evicts_nothing() -> None:
    assert set(SERVICES["redis"]["command"]) >= DURABLE
    assert {word for word in DURABLE if f"- {word}\n" in REDIS} == DURABLE


def test_nginx_takes_the_bodies_that_the_api_takes() -> None:
    limit = Settings().max_body_bytes
    assert re.findall(r"client_max_body_size (\d+)m;", NGINX) == [str(limit // 1024**2)]
    assert f"longer than the {limit} bytes" in NGINX


def test_whatever_nginx_answers_by_itself_is_a_problem_as_the_api_describes_it() -> None:
    said = re.findall(r"return (\d+) '(.+)';", NGINX)
    for status, body in said:
        assert ProblemMessage.model_validate_json(body).status == int(status)
    answered = re.findall(r"^ {8}error_page ([\d ]+)(?: =\d+)? \S+;", NGINX, re.MULTILINE)
    assert {code for codes in answered for code in codes.split()} == {
        "400",
        "404",
        "405",
        "413",
        "414",
        "494",
        "500",
        "502",
        "504",
    }
    assert {status for status, _ in said} == {"400", "404", "405", "413", "414", "503"}


def test_nginx_asks_for_the_address_of_the_api_again_and_again() -> None:
    assert "resolver 127.0.0.11 valid=2s" in NGINX
    assert "set $api http://api:8000;" in NGINX
    assert set(re.findall(r"proxy_pass (\S+);", NGINX)) == {"$api"}


def test_only_calls_that_may_be_made_twice_are_made_twice() -> None:
    twice = re.findall(r"location = (\S+) \{[^}]*non_idempotent", NGINX)
    assert twice == ["/rank", "/events"]


def test_nginx_writes_nowhere_but_to_tmp() -> None:
    written = re.findall(r"^\s*(?:pid|\w+_temp_path) (\S+);", NGINX, re.MULTILINE)
    assert len(written) == 6
    assert all(path.startswith("/tmp/") for path in written)


def test_the_image_names_no_version_that_the_lock_has() -> None:
    assert re.findall(r"==\d", DOCKERFILE) == []
    assert DOCKERFILE.count("FROM python:3.11-slim-bookworm") == 2


def test_the_image_is_built_from_the_two_packages_and_what_describes_them() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert allowed == {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "model", "service"}
    assert "*" in lines
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert {name for names in copied for name in names.split()} == allowed
    assert [file for file in allowed if not Path(ROOT, file).exists()] == []


def test_the_packages_hold_nothing_but_modules_which_is_all_that_the_image_installs() -> None:
    kept = [file for package in ("model", "service") for file in (ROOT / package).rglob("*") if file.is_file()]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    others = {file.suffix for file in kept if "__pycache__" not in file.parts} - {".py"}
    assert not others or "[tool.setuptools.package-data]" in project


def test_health_is_what_the_api_says_of_itself() -> None:
    assert "'/livez'" in DOCKERFILE.partition("HEALTHCHECK")[2]
    assert "'/readyz'" in str(SERVICES["api"]["healthcheck"]["test"])
