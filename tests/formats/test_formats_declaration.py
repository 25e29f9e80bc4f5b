"""``outbox.yaml``: what the experiment says itself, and what is wrong with it, by line and key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from format_makers import RunFolder

from wandb_outbox.folder import Selection, snapshot
from wandb_outbox.formats import Declaration, DeclaredArtifact, read_declaration, upload_wish
from wandb_outbox.formats.schema import KEYWORDS, faults, load_schema

SCHEMA = load_schema("wandb_outbox.formats", "outbox.schema.json")
EMPTY = Declaration()


def _read(path: Path, text: str | bytes) -> Declaration:
    RunFolder(path).put("outbox.yaml", text)
    return read_declaration(str(path), snapshot(str(path)))


def _wish(path: Path, text: str | bytes) -> str | None:
    RunFolder(path).put("outbox.yaml", text)
    return upload_wish(str(path), snapshot(str(path)))


def _words(declaration: Declaration) -> list[str]:
    return [warning.message for warning in declaration.warnings]


WHOLE = """\
project: phishing
name: exp-003-train-2025-12-13T07-30-22Z
group: exp-003
job_type: train
tags: [nlp, 0.5]
notes: why
params: {lr: 1e-4, day: 2025-12-13}
meta: {3: c}
summary: {f1: 0.94}
upload: never
inputs: [clean:v1, other/raw:latest, team/other/raw, clean:v1]
artifacts:
  - {name: model, type: model, description: d, metadata: {a: 1}, aliases: best, files: [m/**, x.json]}
"""


def test_all_that_a_run_folder_can_say(tmp_path: Path) -> None:
    """Each key of the contract; numbers as Hydra writes them, dates as they stand there."""
    assert _read(tmp_path, WHOLE) == Declaration(
        project="phishing",
        name="exp-003-train-2025-12-13T07-30-22Z",
        group="exp-003",
        job_type="train",
        tags=("nlp", "0.5"),
        notes="why",
        params={"lr": 1e-4, "day": "2025-12-13"},
        meta={"3": "c"},
        summary={"f1": 0.94},
        upload="never",
        inputs=("clean:v1", "other/raw:latest", "team/other/raw"),
        artifacts=(DeclaredArtifact("model", "model", ("m/**", "x.json"), "d", {"a": 1}, ("best",)),),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, text: str) -> None:
    """It only makes the folder a run folder."""
    assert _read(tmp_path, text) == EMPTY


def test_no_file_says_nothing(tmp_path: Path) -> None:
    """As in most folders."""
    assert read_declaration(str(tmp_path), snapshot(str(tmp_path))) == EMPTY
    assert upload_wish(str(tmp_path), snapshot(str(tmp_path))) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tags: [a]\ngroup: 003\n", "outbox.yaml line 2: group: expected a text (in quotes"),
        ("projct: x\n", "outbox.yaml line 1: projct: unknown key (did you mean project?); it is left out"),
        ("x: 1\n", "unknown key (known keys: project, name,"),
        ("\ninputs:\n  - ok:v1\n  - a b\n", "outbox.yaml line 4: inputs[1]: 'a b' is not the name of an artifact"),
        ("inputs: a b\n", "outbox.yaml line 1: inputs: 'a b' is not the name of an artifact that the run used"),
        ("inputs: ['http://x/y']\n", "inputs[0]: 'http://x/y' is not the name of an artifact"),
        ("artifacts:\n- name: m\n  type: model\n", "outbox.yaml line 2: artifacts[0]: files is missing"),
        ("artifacts:\n- name: m\n  type: job\n  files: x\n", "line 3: artifacts[0].type: 'job' is not a type: "),
        ("artifacts:\n- {name: m, type: t, files: x, aliases: [v3]}\n", "artifacts[0].aliases[0]: 'v3' is not"),
        ("artifacts:\n- {name: m, type: t, files: x, alias: b}\n", "artifacts[0].alias: unknown key (did you mean al"),
        ("params: 3\n", "params: expected a mapping, found 3"),
        ("name: ''\n", "name: an empty text says nothing"),
        ("name: a\nname: b\n", "outbox.yaml line 2: name is said twice; the last one counts"),
        ("entity: me\n", "line 1: entity: run data never chooses the entity; set it for the root, or say --entity"),
        ("params:\n  lr: 1\n  lr: 2\n", "outbox.yaml line 3: params.lr is said twice; the last one counts"),
        ("upload: no\n", "expected hold or never, found False; it counts as never"),
        ("upload:\n", "expected hold or never, found None; it is left out"),
        ("upload: later\n", "expected hold or never, found 'later'; the run is held, for this is no consent"),
        ("[1]\n", "outbox.yaml line 1: expected a mapping; it counts for nothing"),
        ("a: [\nb: }\n", "outbox.yaml is not valid YAML and counts for nothing ("),
        ("a: !!python/object:os.system x\n", "is not valid YAML"),
        ("? [a]\n: b\n", "is not valid YAML and counts for nothing"),
        ("a: &a [*a]\n", "an alias that holds itself"),
        ("a: " + "[" * 70 + "]" * 70, "nested deeper than 64 levels"),
    ],
)
def test_a_fault_is_named_with_its_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    """And with what to do, where anybody can know it."""
    words = _words(_read(tmp_path, text))
    assert len(words) == 1
    assert expected in words[0]


def test_a_file_of_the_other_ending_is_told(tmp_path: Path) -> None:
    """It is easily written, and would be ignored without a word."""
    RunFolder(tmp_path).put("outbox.yml", "name: n\n")
    read = read_declaration(str(tmp_path), snapshot(str(tmp_path)))
    assert (read.name, [each.message for each in read.warnings]) == (
        None,
        ["outbox.yml is not read; call it outbox.yaml"],
    )
    assert _read(tmp_path, "name: n\n").warnings == ()


def test_what_is_wrong_does_not_stop_the_rest(tmp_path: Path) -> None:
    """Only the faulty key, or the faulty element of a list, is left out."""
    read = _read(
        tmp_path,
        "group: 3\nname: n\nparams: {a: 1}\ntags: [a, [b], c]\ninputs: [a b, ok]\n"
        "artifacts:\n- {name: m}\n- {name: k, type: t, files: x, colour: red}\n",
    )
    assert (read.group, read.name, read.params, read.tags, read.inputs) == (None, "n", {"a": 1}, ("a", "c"), ("ok",))
    assert [each.name for each in read.artifacts] == ["k"]
    assert len(read.warnings) == 6


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("upload: hold\n", "hold"),
        ("{upload: never}\n", "never"),
        ("upload: no\n", "never"),
        ("upload: yes\n", "hold"),
        ("upload:\n", None),
        ("notes: no upload\n", None),
        ("params: {upload: never}\n", None),
        ("a: [\nupload: 'never'  # for now\n", "never"),
        ("a: [\n", None),
        ("upload", None),
        (b"upload: hold\n\xff\xfe", "hold"),
        ("#" * 262_144 + "\n", "hold"),
    ],
)
def test_the_folders_own_wish(tmp_path: Path, text: str | bytes, wish: str | None) -> None:
    """Both readers agree, also on a file that cannot be read; what is neither word is no consent."""
    assert _wish(tmp_path, text) == wish
    assert _read(tmp_path, text).upload == wish


def test_the_wish_costs_no_yaml_where_nothing_is_wished(tmp_path: Path) -> None:
    """The daemon asks this of every folder."""
    RunFolder(tmp_path).put("outbox.yaml", "name: x\n")
    script = (
        "import sys; from wandb_outbox.folder import snapshot; from wandb_outbox.formats import upload_wish; "
        "print(upload_wish(sys.argv[1], snapshot(sys.argv[1])), 'yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "None False\n"


def test_a_file_that_is_not_uploaded_counts_all_the_same(tmp_path: Path) -> None:
    """It may be excluded; a link of its name says nothing."""
    RunFolder(tmp_path).put("outbox.yaml", "upload: never\nname: n\n")
    without = snapshot(str(tmp_path), Selection(("outbox.yaml",)).selector())
    assert without.file("outbox.yaml") is None
    assert read_declaration(str(tmp_path), without).name == "n"
    assert upload_wish(str(tmp_path), without) == "never"
    (tmp_path / "outbox.yaml").rename(tmp_path / "other")
    os.symlink("other", tmp_path / "outbox.yaml")
    assert read_declaration(str(tmp_path), snapshot(str(tmp_path))) == EMPTY
    assert upload_wish(str(tmp_path), snapshot(str(tmp_path))) is None


def _subschemas(schema: Any) -> list[dict[str, Any]]:
    found = [schema]
    for each in schema.get("properties", {}).values():
        found += _subschemas(each)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += _subschemas(schema[key])
    return found


@pytest.mark.parametrize(
    ("package", "name"),
    [("wandb_outbox.formats", "outbox.schema.json"), ("wandb_outbox.plan", "convention.schema.json")],
)
def test_our_schemas_use_only_what_the_checker_knows(package: str, name: str) -> None:
    """A keyword that is not checked would promise what nobody keeps."""
    for each in _subschemas(load_schema(package, name)):
        assert set(each) <= KEYWORDS | {"$schema", "title", "description"}


@pytest.mark.parametrize(
    ("schema", "sound", "faulty"),
    [
        ({"type": "string"}, ["", "a"], [1, None, [], {}, True]),
        ({"type": ["number", "null"]}, [1, 1.5, None], [True, "1"]),
        ({"type": "integer"}, [1], [1.5, False]),
        ({"type": "integer", "minimum": 1, "maximum": 18}, [1, 18], [0, 19]),
        ({"type": "boolean"}, [True], [1, "true"]),
        ({"enum": ["a", "b"]}, ["a"], ["c", 1]),
        ({"type": "string", "minLength": 1, "pattern": "^a"}, ["a"], ["", " ", "b"]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, [["a"]], [[], ["a", 1]]),
        ({"type": "object", "required": ["a"]}, [{"a": 1, "b": 2}], [{}, {"b": 1}]),
        ({"properties": {"a": {"type": "string"}}, "additionalProperties": False}, [{}, {"a": "x"}], [{"b": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "x"}]),
    ],
)
def test_the_checker_keeps_the_meaning_of_each_keyword(
    schema: dict[str, Any], sound: list[Any], faulty: list[Any]
) -> None:
    """As JSON Schema has it, but that a text of blanks is empty."""
    assert [list(faults(value, schema)) for value in sound] == [[] for _ in sound]
    assert all(list(faults(value, schema)) for value in faulty)


def test_the_schema_has_the_keys_of_the_contract() -> None:
    """Those of docs/conventions.md, and no other."""
    assert list(SCHEMA["properties"]) == [
        "project", "name", "group", "job_type", "tags", "notes", "params", "meta", "summary", "upload", "inputs",
        "artifacts", "media",
    ]  # fmt: skip
