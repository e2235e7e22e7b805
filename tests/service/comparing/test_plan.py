"""What is compared: contestants from names and from a file."""

from typing import Any

import pytest

from model.zoo import ARCHITECTURES
from service.comparing.plan import PlanRefused, every, named, plan_of


def plan(*contestants: object, **more: object) -> Any:  # noqa: ANN401  # a plan
    return plan_of({"contestants": [*contestants], **more}, {})


def test_all_of_the_zoo_and_both_halves_are_compared_unless_named() -> None:
    found = plan_of({"contestants": named(every(), {})}, {})
    assert [one.name for one in found.contestants] == [*ARCHITECTURES, "wide", "deep"]
    assert found.baseline == "wide_deep"
    assert found.halves() == ("wide_deep", "wide", "deep")
    assert found.seeds == 1


def test_the_halves_are_found_by_what_they_are_trained_as() -> None:
    found = plan(
        {"name": "both", "arch": "wide_deep", "params": {"dim": 8}},
        {"name": "one", "arch": "wide_deep", "params": {"dim": 8, "deep": False}},
        {"name": "other", "arch": "wide_deep", "params": {"dim": 4, "wide": False}},
    )
    assert found.halves() is None
    assert found.baseline == "both"


def test_options_go_before_the_file_and_a_contestants_before_the_defaults() -> None:
    told = {
        "contestants": [{"name": "a"}, {"name": "b", "recipe": "paper"}],
        "defaults": {"recipe": "adam"},
        "seeds": 2,
    }
    found = plan_of(told, {"epochs": 4, "seeds": 3, "baseline": "b"})
    assert [(one.config.recipe, one.config.epochs) for one in found.contestants] == [("adam", 4), ("paper", 4)]
    assert (found.seeds, found.baseline) == (3, "b")


def test_every_contestant_has_a_first_run_before_any_has_a_second() -> None:
    runs = [
        (one.name, one.run(place).seed) for one, place in plan({"name": "a", "seed": 5}, {"name": "b"}, seeds=2).runs()
    ]
    assert runs == [("a", 5), ("b", 0), ("a", 6), ("b", 1)]


def test_a_name_of_the_zoo_is_what_it_says_unless_told_otherwise() -> None:
    contestants = plan(
        {"name": "lr"}, {"name": "fm", "arch": "ffm"}, {"name": "wide", "params": {"dim": 8}}, {"name": "mine"}
    ).contestants
    assert [one.config.architecture for one in contestants] == ["lr", "ffm", "wide_deep", "wide_deep"]
    assert contestants[2].config.params == {"deep": False, "dim": 8}
    assert contestants[3].config.params == {}


def test_an_architecture_names_its_contestant_where_nothing_else_does() -> None:
    assert plan({"arch": "wide_deep"}).contestants[0].name == "wide_deep"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({}, "needs contestants"),
        ({"contestants": []}, "needs contestants"),
        ({"contestants": [{"name": "a"}], "seed": 1}, "has no seed; there are baseline"),
        ({"contestants": ["wide_deep"]}, "write `- name: wide_deep`"),
        ({"contestants": [{"name": "a"}, {"name": "a"}]}, "a came twice"),
        ({"contestants": [{"name": "<b>"}]}, "cannot be named '<b>'"),
        ({"contestants": [{"recipe": "adam"}]}, "cannot be named None"),
        ({"contestants": [{"name": "a", "epoch": 1}]}, "'a', option epoch"),
        ({"contestants": [{"name": "a", "epochs": 0}]}, "'a', option epochs"),
        ({"contestants": [{"name": "a", "recipe": "adm"}]}, "contestant 'a': no recipe 'adm'; there are adam"),
        ({"contestants": [{"name": "a", "recipe_options": {"l3": 1}}]}, "contestant 'a': recipe paper: l3"),
        ({"contestants": [{"name": "a", "params": {"depth": 1}}]}, "contestant 'a': wide_deep: depth"),
        ({"contestants": [{"name": "a", "arch": "magic"}]}, "contestant 'a': no architecture 'magic'"),
        ({"contestants": [{"name": "dcnv2"}]}, "'dcnv2' has no arch and is nearly named dcn_v2"),
        ({"contestants": [{"name": "DeepFM", "epochs": 2}]}, "'DeepFM' has no arch and is nearly named deepfm"),
        ({"contestants": [{"name": "a"}], "baseline": "b"}, "'b' is not among"),
        ({"contestants": [{"name": "a"}], "seeds": 0}, "1 to 100"),
        ({"contestants": [{"name": "a"}], "seeds": True}, "1 to 100"),
        ({"contestants": [{"name": "a"}], "defaults": [1]}, "defaults by name"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanRefused) as refused:
        plan_of(told, {})
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_that_is_no_architecture_is_refused() -> None:
    with pytest.raises(PlanRefused, match="no architecture 'magic'"):
        named(["magic"], {})
