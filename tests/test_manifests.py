"""The Kubernetes manifests fit the published schemas, each other, the settings and the API."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.api.app import create_app
from service.container import build
from service.errors import SettingsRefused
from service.keys import Keys
from service.serve import DRAIN_S
from service.settings import PREFIX, Settings, variable
from tests.architecture import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
OVERLAY = KUBERNETES / "overlays" / "example"
SCHEMAS = "1.37"
OWN_NAME = "app.kubernetes.io/name"
RENDERERS = [("kustomize", "build"), ("kubectl", "kustomize")]

Document = dict[str, Any]


def documents(folder: Path) -> list[Document]:
    """Every document of the files that a kustomization names in its own folder."""
    named = [folder / name for name in kustomization(folder)["resources"] if not name.startswith("..")]
    return [document for file in named for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def kustomization(folder: Path) -> Document:
    read: Document = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return read


ALL = [*documents(BASE), *documents(OVERLAY)]
WORKLOADS = [one for one in ALL if one["kind"] in ("Deployment", "StatefulSet")]


def named(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def find(kind: str, name: str) -> Document:
    (found,) = [one for one in ALL if named(one) == f"{kind}/{name}"]
    return found


def pod(workload: Document) -> Document:
    spec: Document = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Document) -> Document:
    (only,) = pod(workload)["containers"]
    return dict(only)


def labels(workload: Document) -> Mapping[str, str]:
    found: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def variables(file: Path) -> dict[str, str]:
    """The lines NAME=VALUE of a file, without its comments."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def settings_given() -> dict[str, str]:
    literals = kustomization(OVERLAY)["configMapGenerator"][0]["literals"]
    return variables(BASE / "settings.env") | dict(line.split("=", 1) for line in literals)


def every_key(value: object) -> Iterator[tuple[str, object]]:
    """Every key of a tree of mappings and lists, with what is under it."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from every_key(inner)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    app = create_app(build(Settings(home=tmp_path_factory.mktemp("routes"))), Keys({}))
    return set(app.openapi()["paths"])


@pytest.mark.parametrize("document", ALL, ids=named)
def test_every_document_fits_the_published_schema(document: Document) -> None:
    kubernetes_validate.validate(document, SCHEMAS, strict=True)


def test_a_misspelt_member_would_be_noticed() -> None:
    broken = {**find("Service", "api"), "spec": {**find("Service", "api")["spec"], "selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, SCHEMAS, strict=True)


@pytest.mark.parametrize("folder", [BASE, OVERLAY], ids=["base", "example"])
def test_a_kustomization_names_every_file_beside_it_and_none_that_is_not_there(folder: Path) -> None:
    told = kustomization(folder)
    generators = [*told.get("configMapGenerator", []), *told.get("secretGenerator", [])]
    patches = [patch["path"] for patch in told.get("patches", [])]
    files = {*told["resources"], *patches, *(name for one in generators for name in one.get("envs", []))}
    assert {name for name in files if not (folder / name).exists()} == set()
    assert {file.name for file in folder.iterdir()} - files == {"kustomization.yaml"}


def test_every_patch_has_its_target_and_every_image_its_user() -> None:
    targets = {named(document) for document in documents(BASE)}
    patches = [
        yaml.safe_load((OVERLAY / one["path"]).read_text(encoding="utf-8")) for one in kustomization(OVERLAY)["patches"]
    ]
    assert {named(patch) for patch in patches} <= targets
    for patch in patches:
        if "template" not in patch["spec"]:
            continue
        assert container(patch)["name"] == container(find(patch["kind"], patch["metadata"]["name"]))["name"]
    used = {container(workload)["image"] for workload in WORKLOADS}
    assert {image["name"] for image in kustomization(OVERLAY)["images"]} <= used


def test_every_variable_is_a_setting() -> None:
    own = {env["name"] for workload in WORKLOADS for env in container(workload).get("env", [])}
    given = {*settings_given(), *variables(OVERLAY / "secrets.env"), *own}
    known = {variable(field) for field in Settings.model_fields}
    assert {name for name in given if name.startswith(PREFIX)} <= known
    assert {name for name in given if not name.startswith(PREFIX)} == {
        "REDISCLI_AUTH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip


def test_the_settings_are_accepted_once_the_keys_are_filled_in_and_not_before() -> None:
    secrets = {name: key for name, key in variables(OVERLAY / "secrets.env").items() if name.startswith(PREFIX)}
    assert Settings.from_env(settings_given() | dict.fromkeys(secrets, "made-by-you")).admin_key is not None
    assert set(secrets.values()) == {""}
    for name in secrets:
        with pytest.raises(SettingsRefused, match=name):
            Settings.from_env(settings_given() | {name: ""})


def test_pods_read_the_settings_and_the_keys_that_are_generated() -> None:
    generated = {
        *(one["name"] for one in kustomization(BASE)["configMapGenerator"]),
        *(one["name"] for one in kustomization(OVERLAY)["secretGenerator"]),
    }
    sources = [find("Deployment", name) for name in ("api", "worker")] + [find("StatefulSet", "redis")]
    read = {
        str(value["name"])
        for key, value in every_key(sources)
        if key in ("configMapRef", "secretRef", "secretKeyRef") and isinstance(value, dict)
    }
    assert read == generated


def test_no_pod_is_given_variables_that_look_like_settings() -> None:
    """A Service puts NAME_PORT and the like into every pod that does not decline them."""
    assert [named(one) for one in WORKLOADS if pod(one)["enableServiceLinks"] is not False] == []


def test_selectors_match_the_pods_they_mean() -> None:
    pods = [labels(workload) for workload in WORKLOADS]
    for workload in WORKLOADS:
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels(workload).items()
    for document in ALL:
        selectors = [value for key, value in every_key(document) if key in ("matchLabels", "selector")]
        plain = [one for one in selectors if isinstance(one, dict) and "matchLabels" not in one]
        assert all(any(one.items() <= pod.items() for pod in pods) for one in plain), named(document)
    (who,) = find("NetworkPolicy", "redis")["spec"]["ingress"][0]["from"]
    (allowed,) = who["podSelector"]["matchExpressions"]
    assert (allowed["key"], set(allowed["values"])) == (OWN_NAME, {"api", "worker"})


def test_ports_and_probes_are_those_of_the_api(routes: set[str]) -> None:
    api = container(find("Deployment", "api"))
    (port,) = api["ports"]
    assert port == {"name": "http", "containerPort": Settings().port}
    probes = {kind: api[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    scraped = find("Deployment", "api")["spec"]["template"]["metadata"]["annotations"]
    assert scraped["prometheus.io/port"] == str(port["containerPort"])
    assert {"/livez", "/readyz", scraped["prometheus.io/path"]} <= routes


@pytest.mark.parametrize("service", ["api", "redis"])
def test_a_service_leads_to_a_port_that_its_pods_open(service: str) -> None:
    (port,) = find("Service", service)["spec"]["ports"]
    (workload,) = [one for one in WORKLOADS if one["metadata"]["name"] == service]
    assert port["targetPort"] in {opened["name"] for opened in container(workload)["ports"]}


def test_the_ingress_publishes_rank_events_and_the_store_and_nothing_of_the_operators(routes: set[str]) -> None:
    (rule,) = find("Ingress", "api")["spec"]["rules"]
    published = {path["path"] for path in rule["http"]["paths"]}
    assert published == {"/rank", "/events", "/users", "/apps"}
    assert published <= routes
    backends = [path["backend"]["service"] for path in rule["http"]["paths"]]
    offered = {port["name"] for port in find("Service", "api")["spec"]["ports"]}
    assert all(one["name"] == "api" and one["port"]["name"] in offered for one in backends)


def test_the_autoscaler_scales_a_deployment_that_exists_and_never_below_it() -> None:
    scaler = find("HorizontalPodAutoscaler", "api")["spec"]
    target = find(scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    assert (
        scaler["minReplicas"]
        >= target["spec"]["replicas"]
        > find("PodDisruptionBudget", "api")["spec"]["maxUnavailable"]
    )


def test_the_number_of_pods_is_the_autoscalers_and_no_apply_sets_it_back() -> None:
    rendered = {named(document): document for document in render()}
    for scaler in (one for one in rendered.values() if one["kind"] == "HorizontalPodAutoscaler"):
        scaled = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in rendered[f"{scaled['kind']}/{scaled['name']}"]["spec"]


def test_the_ingress_sends_a_ranking_that_was_shed_to_another_pod() -> None:
    """nginx sends no POST twice unless it is told that it may, see docker/nginx.conf."""
    told = find("Ingress", "api")["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-next-upstream"]
    assert set(told.split()) == {"error", "timeout", "http_503", "non_idempotent"}


def test_a_pod_has_the_time_to_drain() -> None:
    api = find("Deployment", "api")
    (_, pause) = container(api)["lifecycle"]["preStop"]["exec"]["command"]
    assert pod(api)["terminationGracePeriodSeconds"] >= int(pause) + DRAIN_S + 10


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_pods_run_without_root_and_without_writing_their_root(workload: Document) -> None:
    assert pod(workload)["securityContext"]["runAsNonRoot"] is True
    assert pod(workload)["automountServiceAccountToken"] is False
    assert container(workload)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    claimed = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    volumes = {*claimed, *(volume["name"] for volume in pod(workload).get("volumes", []))}
    assert {mount["name"] for mount in container(workload)["volumeMounts"]} == volumes


def test_the_rendered_example_fits_the_schemas_and_refers_to_what_it_holds() -> None:
    rendered = render()
    for document in rendered:
        kubernetes_validate.validate(document, SCHEMAS, strict=True)
    held = {named(document) for document in rendered}
    kinds: Mapping[str, Callable[[Document], str]] = {
        "configMapRef": lambda ref: f"ConfigMap/{ref['name']}",
        "secretRef": lambda ref: f"Secret/{ref['name']}",
        "secretKeyRef": lambda ref: f"Secret/{ref['name']}",
    }
    refs = [kinds[key](value) for key, value in every_key(rendered) if key in kinds and isinstance(value, dict)]
    assert refs
    assert set(refs) <= held
    assert {document["metadata"].get("namespace", "appshelf") for document in rendered} == {"appshelf"}


def render() -> list[Document]:
    """The example as `kubectl apply -k` would send it; the test is skipped where nothing here can render it."""
    found = [(shutil.which(tool), verb) for tool, verb in RENDERERS if shutil.which(tool)]
    if not found:
        pytest.skip("neither kustomize nor kubectl is installed; the files it would put together are checked above")
    tool, verb = found[0]
    ended = subprocess.run([str(tool), verb, str(OVERLAY)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))
