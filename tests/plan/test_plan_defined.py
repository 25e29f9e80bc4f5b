"""Conventions of one's own: templates, values, and every fault named when the configuration is loaded."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from plan_makers import Run, rules

from wandb_outbox.deliver.protocol import Job, job_from_json, job_to_json
from wandb_outbox.errors import ConfigurationError
from wandb_outbox.formats import Declaration
from wandb_outbox.model import Overrides, RootRules
from wandb_outbox.plan import CONVENTIONS, definition_faults
from wandb_outbox.plan.conventions import Names, decide
from wandb_outbox.plan.facts import Facts
from wandb_outbox.plan.templates import read_template
from wandb_outbox.settings import Settings, load

CONFIG: Mapping[str, Any] = {
    "seed": 42,
    "debug": True,
    "lr": 0.0010,
    "empty": "none",
    "model": {"name": "Big_Model", "path": "hub/Small"},
    "who": "${model.name}",
}


def _decide(text: str, *below: str, config: Mapping[str, Any] = CONFIG, **more: Any) -> Names:
    rules = RootRules(convention="own", definition=tomllib.loads(text))
    below = below or ("2025-12-03", "exp", "seed7_10-00-00")
    return decide(Facts(config=config, below_root=below, format="hydra", root="/data/outputs", rules=rules, **more))


def _name(text: str, *below: str, **more: Any) -> str:
    return _decide(text, *below, **more).name


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{a}", "A"),
        ("{a}_{b}", "A_B"),
        ("{a}[_{b}]", "A_B"),
        ("{a}[_{no}]", "A"),
        ("{a}[_{b}_{no}]", "A"),
        ("{a}[_{b}[-{no}]]", "A_B"),
        ("{a}[_{no}[-{b}]]", "A"),
        ("{no}", None),
        ("{a}{no}", None),
        ("{no|a}", "A"),
        ("{ no | b }", "B"),
        ("{model.type-x}", None),
    ],
)
def test_what_stands_in_brackets_appears_with_its_values(template: str, text: str | None) -> None:
    """A suffix that is there only when its value is; a template that lacks a value gives nothing."""
    assert read_template(template).fill({"a": "A", "b": "B"}.get) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{a", "{ at character 1 has no counterpart"),
        ("a}", "} at character 2 has no counterpart"),
        ("a]", "] at character 2 has no counterpart"),
        ("[a", "a [ has no ]"),
        ("[{a}", "a [ has no ]"),
        ("[a]", "the brackets that end at character 3 hold no value"),
        ("{}", "'' is no name"),
        ("{a|}", "'' is no name"),
        ("{a b}", "'a b' is no name"),
        ("{a..b}", "'a..b' is no name"),
    ],
)
def test_a_template_that_cannot_be_read_says_where(template: str, words: str) -> None:
    """The message names the place."""
    with pytest.raises(ValueError, match=r".") as raised:
        read_template(template)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ('v = "seed"', "42"),
        ('v = "lr"', "0.001"),
        ('v = "debug"', "true"),
        ('v = "who"', "Big_Model"),
        ('v = ["empty", "none.there", "model.path"]', "hub/Small"),
        ('v = { from = ["empty", "model.path"], match = "[^/]+$", lower = true }', "small"),
        ('v = { from = "model.name", lower = true, replace = { _ = "-" }, map = { big-model = "huge" } }', "huge"),
        ('v = { from = "model.name", map = { Big_Model = "{model.path}" } }', "hub/Small"),
        ('v = { from = "model.name", map = { other = "x" } }', "Big_Model"),
        ('v = { from = ["model.name", "seed"], ignore = "Big_Model" }', "42"),
        ('v = { from = "empty", default = "{folder}" }', "seed7_10-00-00"),
        ("v = { from = { part = -1 } }", "seed7_10-00-00"),
        ("v = { from = [{ part = 9 }, { part = 1 }] }", "exp"),
        ('v = { from = { path = "seed([0-9]+)" } }', "7"),
        ('v = { from = { path = "[0-9-]+/exp" } }', "2025-12-03/exp"),
        ('v = { from = { part = -1, match = "_(.*)" } }', "10-00-00"),
        ('v = [{ key = "seed", when = { w = "b" } }, { key = "lr", when = { w = ["a", "Big_Model"] } }]\nw = "model.name"',
         "0.001"),
        ('v = { from = [{ text = "{w}-{folder}" }] }\nw = "seed"', "42-seed7_10-00-00"),
        ('v = { from = ["model.name", "seed"], as = "integer" }', "42"),
        ('v = { from = ["lr"], as = "integer", default = "none whole" }', "none whole"),
        ('v = { from = { path = "seed([0-9]+)" }, as = "number" }', "7"),
        ('v = { from = { path = "seed([0-9]+)" }, as = "integer", digits = 3 }', "007"),
        ('v = { from = "seed", digits = 1 }', "42"),
        ('v = { from = "model.name", dashes = true, map = { Big-Model = "huge" } }', "huge"),
        ('v = { from = { text = "__{w}//" }, dashes = true }\nw = "model.path"', "hub-Small"),
        ('v = { from = { text = "__" }, dashes = true, default = "none" }', "none"),
        ('v = { from = ["model.name", "seed"], not_in = "w" }\nw = { from = { text = "a-big_model-b" } }', "42"),
        ('v = { from = "model.name", not_in = "w" }\nw = { from = { text = "a-big_models-b" } }', "Big_Model"),
    ],
)  # fmt: skip
def test_values(values: str, name: str) -> None:
    """Fall-backs, patterns, maps, path parts, conditions and defaults."""
    assert _name(f'name = "{{v}}"\n[values]\n{values}\n') == name


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{folder}", "seed7_10-00-00"),
        ("{path}", "exp-seed7_10-00-00"),
        ("{parent}", "exp"),
        ("{root}", "outputs"),
        ("{date}", "2025-12-03"),
        ("{started}", "2025-12-03T09-00-00Z"),
        ("{format}", "hydra"),
        ("{model.name}", "Big_Model"),
    ],
)
def test_values_that_every_convention_has(template: str, name: str) -> None:
    """From the folder's place and time."""
    assert _name(f'name = "{template}"', started_at="2025-12-03T09-00-00Z") == name


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ({}, "nobody"),
        ({"rules": "of the root"}, "of the root"),
        ({"rules": "of the root", "declared": "of outbox.yaml"}, "of outbox.yaml"),
        ({"rules": "of the root", "declared": "of outbox.yaml", "overrides": "typed"}, "typed"),
    ],
)
def test_a_name_can_hold_what_a_stronger_layer_says(layers: dict[str, str], text: str) -> None:
    """The job type that ``outbox.yaml`` gives stands in the run's name, too."""
    table = tomllib.loads('name = "x-{v}"\n[values]\nv = { from = { said = "job_type" }, default = "nobody" }')
    facts = Facts(
        config=CONFIG,
        below_root=("exp",),
        format="plain",
        rules=RootRules(convention="own", definition=table, job_type=layers.get("rules")),
        declared=Declaration(job_type=layers.get("declared")),
        overrides=Overrides(job_type=layers.get("overrides")),
    )
    assert decide(facts).name == f"x-{text}"


def test_the_group_that_the_experiment_recorded_is_said() -> None:
    """Its references are followed; what only Hydra could resolve says nothing."""
    text = 'name = ["x-{v}", "none"]\n[values]\nv = { from = { said = "group" } }'
    assert _name(text, recorded_group="of ${model.name}") == "x-of Big_Model"
    assert _name(text, recorded_group="${now:%H}") == "none"


def test_the_first_template_with_a_text_counts() -> None:
    """Fall-backs of whole templates; what no template gives is as in the convention plain."""
    names = _decide('name = ["{model.x}-a", "{seed}-b"]\ntags = ["{model.x}", "{seed}"]\n[values]\nseed = "seed"')
    assert (names.name, names.tags) == ("42-b", ("42",))
    assert (names.project, names.group, names.artifact) == (
        "wandb-outbox-outputs", "exp", "outputs-2025-12-03-exp-seed7_10-00-00"
    )  # fmt: skip
    assert (names.sources["name"], names.convention) == ("convention own: seed", "own")


def test_a_name_that_no_template_gives_is_a_warning() -> None:
    """It says which values are missing, and how to mend it."""
    names = _decide('name = "{model.x}-{v}"\n[values]\nv = "y"')
    assert names.name == "seed7_10-00-00"
    (warning,) = names.warnings
    assert warning.rule == "name-pattern"
    assert "no value for model.x, v" in warning.message
    assert "add a fall-back or a default in [conventions.own]" in warning.message


def test_group_job_type_and_artifact() -> None:
    """Everything that a built-in convention decides."""
    names = _decide(
        'name = "n"\nproject = "p-{model.name}"\ngroup = "g-{date}"\njob_type = "test"\nartifact = "a-{path}"\n'
        'artifact_type = "model"'
    )
    assert (names.project, names.group, names.job_type) == ("p-Big_Model", "g-2025-12-03", "test")
    assert (names.artifact, names.artifact_type) == ("a-exp-seed7_10-00-00", "model")


def test_a_convention_of_ones_own_can_nest_the_config(tmp_path: Path) -> None:
    """The shape of params-meta with other names, through the message to the uploader and back."""
    definition = {"name": "{model.type}-{folder}", "config": "params-meta"}
    run = Run(tmp_path).ask(rules=RootRules(convention="own", definition=definition))
    job = Job(1, run.request, "b", "f", contacted=False)
    assert job_from_json(job_to_json(job)) == job
    plan = run.plan()
    assert (plan.convention, plan.name) == ("own", "vllm-run_name")
    assert plan.config["params"]["strategy"] == {"type": "deepconf"}
    assert rules(plan) == ["params-meta"]


FAULTS: list[tuple[str, str]] = [
    ("project = 'x'", "conventions.own: name is missing"),
    ("name = 3", "conventions.own: name: expected a text (in quotes, if it looks like a number or a date) or a list"),
    ("name = ''", "name: an empty text says nothing"),
    ("name = []", "name: an empty list says nothing"),
    ("name = 'x'\nnam = 'y'", "nam: unknown key (did you mean name?)"),
    ("name = '{v'", "name: '{v': { at character 1 has no counterpart"),
    ("name = '{v}'", "template name: there is no value 'v' (known: date, folder,"),
    ("name = '{first}'", "template name: there is no value 'first'"),
    ("name = 'x'\ntags = ['{w}']", "template tags: there is no value 'w'"),
    ("name = 'x'\nartifact_type = 'job'", "artifact_type: 'job' is not of the form"),
    ("name = 'x'\nconfig = 'deep'", "config: expected flat or params-meta, found 'deep'"),
    ("name = 'x'\n[values]\nv = { from = 'a', colour = 'red' }", "values.v.colour: unknown key"),
    ("name = 'x'\n[values]\nv = { default = 'a' }", "values.v: from is missing"),
    ("name = 'x'\n[values]\nv = { from = 'a', match = '(' }", "values.v: '(' is no regular expression"),
    ("name = 'x'\n[values]\nv = { from = { path = '[' } }", "values.v: '[' is no regular expression"),
    (
        "name = 'x'\n[values]\nv = { from = { when = {} } }",
        "values.v: a source has exactly one of key, part, path, text, said",
    ),
    ("name = 'x'\n[values]\nv = { from = { said = 'tags' } }", "values.v.from.said: expected project or name or group"),
    ("name = 'x'\n[values]\nv = { from = 'a', not_in = 'c' }", "values.v: there is no value 'c'"),
    ("name = 'x'\n[values]\nv = { from = 'a', not_in = 'v' }", "these need each other"),
    ("name = 'x'\n[values]\nv = { from = { key = 'a', part = 1 } }", "a source has exactly one of"),
    ("name = 'x'\n[values]\nv = { from = 'a', map = { b = '{c}' } }", "values.v: there is no value 'c'"),
    ("name = 'x'\n[values]\nv = { from = 'a', map = { b = '{' } }", "values.v.map.b: '{': { at character 1"),
    ("name = 'x'\n[values]\nv = { from = 'a', default = '[' }", "values.v.default: '[': a [ has no ]"),
    ("name = 'x'\n[values]\nv = { from = { key = 'a', when = { c = 'd' } } }", "values.v: there is no value 'c'"),
    ("name = 'x'\n[values]\nv = { from = { text = '{w}' } }\nw = { from = { text = '{v}' } }", "these need each other"),
    ("name = 'x'\n[values]\nfolder = 'a'", "values.folder: folder has a meaning of its own already"),
    ("name = 'x'\n[values]\n'a.b' = 'a'", "values.a.b: 'a.b' is no name"),
    ("name = 'x'\n[samples]\nof = 'v'", "samples: count is missing"),
    ("name = 'x'\n[samples]\ncount = 'a'\nof = 'v'", "there is no value 'v'"),
    ("name = 'x'\n[samples]\ncount = 'a'\nof = 'v'\n[values]\nv = { from = { text = '{last}' } }", "need each other"),
    ("name = 2025-12-13", "name: expected a text"),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_each_fault_is_named_with_its_place(text: str, expected: str) -> None:
    """In the words of the configuration."""
    found = definition_faults("own", tomllib.loads(text))
    assert any(expected in fault for fault in found), found
    with pytest.raises(ConfigurationError):
        _decide(text)


def test_all_faults_of_a_table_come_at_once() -> None:
    """One look is enough to mend it."""
    assert (
        len(
            definition_faults(
                "own", tomllib.loads("name = '{'\ngroup = '['\n[values]\nv = { from = 'a', match = '(' }")
            )
        )
        == 3
    )
    assert definition_faults("a b", {"name": "x"}) == ["conventions.a b: 'a b' is no name (letters, digits, - and _)"]


def _load(path: Path, text: str, **environ: str) -> Settings:
    file = path / "wandb-outbox.toml"
    file.write_text(text)
    return load(
        environ, config=str(file), conventions=CONVENTIONS, convention_faults=definition_faults
    ).settings  # fmt: skip


def _faults(path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as told:
        _load(path, text)
    return told.value.problems


ROOT = '[[roots]]\npath = "/data/outputs"\nconvention = "own"\n'


def test_a_root_names_a_convention_of_the_configuration(tmp_path: Path) -> None:
    """And carries it to the plan; a ROOT argument keeps it."""
    settings = _load(tmp_path, ROOT + '[conventions.own]\nname = "n-{folder}"\n')
    assert settings.roots[0].rules == RootRules(convention="own", definition={"name": "n-{folder}"})
    file = str(tmp_path / "wandb-outbox.toml")
    again = load({}, config=file, roots=("/data/outputs", "/b"), conventions=CONVENTIONS).settings
    assert [root.rules.definition for root in again.roots] == [{"name": "n-{folder}"}, None]


def test_faults_of_conventions_are_faults_of_the_configuration(tmp_path: Path) -> None:
    """Named when it is loaded, with the others, and with the file."""
    found = _faults(tmp_path, 'settle = "x"\n' + ROOT + '[conventions.own]\nname = "{"\n')
    assert len(found) == 2
    assert any(
        fault.startswith(f"{tmp_path}/wandb-outbox.toml: conventions.own: name: '{{': {{ at char") for fault in found
    )


def test_a_convention_that_nobody_defines_lists_the_known(tmp_path: Path) -> None:
    """Those of the configuration among them."""
    (fault,) = _faults(tmp_path, ROOT + '[conventions.mine]\nname = "x"\n')
    assert "unknown convention 'own' (known: auto, llm-tts-eval, mine, params-meta, plain)" in fault


def test_a_built_in_name_is_not_defined_anew(tmp_path: Path) -> None:
    """What it means is documented."""
    (fault,) = _faults(tmp_path, '[conventions.llm-tts-eval]\nname = "x"\n')
    assert "this name is taken by a convention that comes built in" in fault
