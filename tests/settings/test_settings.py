"""The configuration: where each value comes from, and every fault at once, with the way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wandb_outbox.errors import ConfigurationError
from wandb_outbox.settings import (
    DEFAULT_BASE_URL,
    Loaded,
    RootSettings,
    Settings,
    find_api_key,
    find_file,
    load,
    parse_size,
    problem_with_rule,
)

CONVENTIONS = frozenset({"auto", "llm-tts-eval", "params-meta"})


class Home:
    """A home directory with a configuration, and the environment of a command."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": str(path)}
        self.file = path / ".config" / "wandb-outbox" / "wandb-outbox.toml"

    def write(self, text: str) -> Home:
        """Write the user's configuration file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)
        return self

    def load(self, *roots: str, config: str | None = None, **environ: str) -> Loaded:
        """The configuration as a command would see it."""
        return load({**self.environ, **environ}, config=config, roots=roots, conventions=CONVENTIONS)

    def settings(self, *roots: str, **environ: str) -> Settings:
        """Its settings."""
        return self.load(*roots, **environ).settings

    def faults(self, *roots: str, **environ: str) -> tuple[str, ...]:
        """What is wrong with it."""
        with pytest.raises(ConfigurationError) as told:
            self.load(*roots, **environ)
        return told.value.problems


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home without a configuration; a system-wide one would disturb these tests."""
    if os.path.exists("/etc/wandb-outbox/wandb-outbox.toml"):
        pytest.skip("this machine has a configuration of its own")
    return Home(tmp_path)


# -- where a value comes from ----------------------------------------------------------------------------------------


def test_nothing_said_means_the_documented_defaults(home: Home) -> None:
    """As in the reference."""
    settings = home.settings()
    assert (settings.settle, settings.crash_grace, settings.stalled_after, settings.rescan) == (10, 60, 21600, 60)
    assert (settings.backlog_after, settings.concurrency, settings.max_attempts) == (604800, 2, 5)
    assert (settings.max_bytes, settings.stop_timeout, settings.hold) == (20_000_000_000, 90, False)
    assert (settings.base_url, settings.entity, settings.roots) == (DEFAULT_BASE_URL, None, ())


def test_environment_beats_file_beats_default(home: Home) -> None:
    """For each setting by itself."""
    home.write("settle = 3\nconcurrency = 4\n")
    settings = home.settings(WANDB_OUTBOX_SETTLE="5")
    assert (settings.settle, settings.concurrency, settings.max_attempts) == (5, 4, 5)


def test_an_empty_variable_says_nothing(home: Home) -> None:
    """`WANDB_OUTBOX_SETTLE=` in a unit file is no value."""
    home.write("settle = 3\n")
    assert home.settings(WANDB_OUTBOX_SETTLE="").settle == 3


def test_only_the_environment_that_is_given_counts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is an argument here, as everywhere."""
    monkeypatch.setenv("WANDB_OUTBOX_SETTLE", "7")
    assert home.settings().settle == 10


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "https://file.test"),
        ({"WANDB_BASE_URL": "https://wandb.test"}, "https://wandb.test"),
        ({"WANDB_BASE_URL": "https://wandb.test", "WANDB_OUTBOX_BASE_URL": "https://ours.test"}, "https://ours.test"),
    ],
)
def test_the_server_of_the_environment_beats_that_of_the_file(
    home: Home, environ: dict[str, str], expected: str
) -> None:
    """W&B's own name works as everywhere; ours is more particular."""
    assert home.write('base_url = "https://file.test"\n').settings(**environ).base_url == expected


def test_the_entity_works_like_the_server(home: Home) -> None:
    """WANDB_ENTITY beats the file, our own name beats it."""
    home.write('entity = "file"\n')
    assert home.settings().entity == "file"
    assert home.settings(WANDB_ENTITY="team").entity == "team"
    assert home.settings(WANDB_ENTITY="team", WANDB_OUTBOX_ENTITY="ours").entity == "ours"


@pytest.mark.parametrize("name", ["BASE_URL", "base_url", "ENTITY", "entity", "SETTLE", "ROOTS", "WANDB_PROJECT"])
def test_a_variable_of_somebody_else_never_steers_us(home: Home, name: str) -> None:
    """A stray BASE_URL, common as it is, must not send the API key elsewhere."""
    assert home.settings(**{name: "http://elsewhere.test"}).model_dump() == home.settings().model_dump()


def test_a_slash_at_the_end_of_the_server_does_not_count(home: Home) -> None:
    """`https://host/` and `https://host` are one."""
    assert home.settings(WANDB_BASE_URL="https://wandb.test/").base_url == "https://wandb.test"


# -- which file ------------------------------------------------------------------------------------------------------


def test_the_file_of_the_service_beats_the_users(home: Home, tmp_path: Path) -> None:
    """CONFIGURATION_DIRECTORY, then /etc, then the user's own; none is fine."""
    assert find_file(home.environ) is None
    home.write("")
    assert find_file(home.environ) == str(home.file)
    assert find_file({**home.environ, "XDG_CONFIG_HOME": str(tmp_path)}) is None
    service = tmp_path / "service" / "wandb-outbox.toml"
    service.parent.mkdir()
    service.touch()
    environ = {**home.environ, "CONFIGURATION_DIRECTORY": f"{service.parent}:/elsewhere"}
    assert find_file(environ) == str(service)
    assert home.load(CONFIGURATION_DIRECTORY=str(service.parent)).file == str(service)


def test_a_file_that_was_named_must_be_there(home: Home) -> None:
    """`--config` with a mistake in it is no reason to go on with defaults."""
    with pytest.raises(ConfigurationError, match=r"/nowhere\.toml: cannot be read"):
        home.load(config="/nowhere.toml")


@pytest.mark.parametrize("text", ["settle = ", "settle == 3", "[[roots]\n"])
def test_a_file_that_is_no_toml_is_named(home: Home, text: str) -> None:
    """With the place where the parser stumbled."""
    (fault,) = home.write(text).faults()
    assert fault.startswith(f"{home.file}: not valid TOML (")
    assert "(at " in fault


def test_a_file_in_another_encoding_is_named(home: Home) -> None:
    """Latin-1 is no TOML."""
    home.write("")
    home.file.write_bytes(b'entity = "\xe4"\n')
    assert "not valid TOML" in home.faults()[0]


# -- roots -----------------------------------------------------------------------------------------------------------


def test_roots_of_the_environment_are_paths_with_colons(home: Home, tmp_path: Path) -> None:
    """Real paths, empty parts ignored; they replace the file's roots."""
    home.write('[[roots]]\npath = "/file"\n')
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    roots = home.settings(WANDB_OUTBOX_ROOTS=f"{tmp_path}/link::/b:").roots
    assert [root.path for root in roots] == [str(tmp_path / "real"), "/b"]


def test_root_arguments_replace_the_roots_but_keep_their_rules(home: Home, tmp_path: Path) -> None:
    """`watch outputs` obeys what the file says of outputs, by its real path, and of nothing else."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "link").symlink_to("outputs")
    home.write(
        f'[[roots]]\npath = "{tmp_path}/outputs"\non_crash = "hold"\ntags = "one"\nexclude = ["*.bin"]\n'
        '[[roots]]\npath = "/other"\nproject = "p"\n'
    )
    one, two = home.settings(f"{tmp_path}/link", "/new", f"{tmp_path}/outputs").roots
    assert (one.path, one.on_crash, one.tags, one.exclude) == (f"{tmp_path}/outputs", "hold", ("one",), ("*.bin",))
    assert two == RootSettings(path="/new")


def test_root_arguments_above_and_below_a_root_obey_its_rules(home: Home) -> None:
    """Where a command looks does not decide what a folder is called or what is left out: the configured root does."""
    home.write(
        '[[roots]]\npath = "/data/outputs"\nproject = "p"\nexclude = ["*.bin"]\nconvention = "mine"\n'
        '[conventions.mine]\nname = "x"\n'
        '[[roots]]\npath = "/data/outputs/inner"\nproject = "q"\n[[roots]]\npath = "/other"\nproject = "o"\n'
    )
    below = home.settings("/data/outputs/2025-12-03")
    assert [(root.path, root.project, root.exclude) for root in below.roots] == [
        ("/data/outputs/2025-12-03", "p", ("*.bin",))
    ]  # fmt: skip
    assert below.roots[0].rules.definition == {"name": "x"}
    above = home.settings("/data")
    assert [(root.path, root.project) for root in above.roots] == [
        ("/data", None), ("/data/outputs", "p"), ("/data/outputs/inner", "q")
    ]  # fmt: skip
    for settings in (below, above, home.settings("/elsewhere"), home.settings()):
        found = {
            path: settings.root_of(path) for path in ("/data/outputs/2025-12-03/x", "/data/outputs/inner/y", "/other/z")
        }
        assert {path: root and root.path for path, root in found.items()} == {
            "/data/outputs/2025-12-03/x": "/data/outputs", "/data/outputs/inner/y": "/data/outputs/inner",
            "/other/z": "/other",
        }  # fmt: skip
        outputs = found["/data/outputs/2025-12-03/x"]
        assert outputs is not None
        assert outputs.rules.definition == {"name": "x"}
    assert home.settings("/elsewhere").root_of("/elsewhere/x") == RootSettings(path="/elsewhere")
    assert above.root_of("/data/x") == RootSettings(path="/data")


def test_the_rules_of_a_root_go_to_the_plan(home: Home) -> None:
    """Entity, project, group, job type, tags and convention."""
    home.write(
        '[[roots]]\npath = "/a"\nconvention = "params-meta"\nentity = "e"\nproject = "p"\ngroup = "g"\n'
        'job_type = "j"\ntags = ["t", "u"]\n'
    )
    rules = home.settings().roots[0].rules
    assert (rules.convention, rules.entity, rules.project) == ("params-meta", "e", "p")
    assert (rules.group, rules.job_type, rules.tags) == ("g", "j", ("t", "u"))


def test_a_home_in_a_path_is_expanded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/outputs` in a file means the home of whoever runs it."""
    monkeypatch.setenv("HOME", "/home/alice")
    assert home.write('[[roots]]\npath = "~/outputs"\n').settings().roots[0].path == "/home/alice/outputs"


def test_the_innermost_root_owns_a_folder() -> None:
    """By whole names: `/a/bc` does not lie below `/a/b`."""
    settings = Settings.model_construct(roots=tuple(RootSettings(path=path) for path in ("/a", "/a/b", "/")))
    owners = {"/a/b/run": "/a/b", "/a/b": "/a/b", "/a/bc": "/a", "/x": "/"}
    for path, root in owners.items():
        found = settings.root_of(path)
        assert found is not None
        assert found.path == root


# -- sizes and rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20GB", 20 * 10**9), ("500 mb", 5 * 10**8), ("1.5GB", 15 * 10**8), ("1GiB", 2**30), ("0", 0), (" 7 ", 7),
     ("3b", 3), ("2TiB", 2**41), ("1KB", 1000)],
)  # fmt: skip
def test_sizes_are_read_as_vendors_write_them(home: Home, text: str, expected: int) -> None:
    """Powers of ten, GiB for the others, a bare number of bytes."""
    assert home.settings(WANDB_OUTBOX_MAX_BYTES=text).max_bytes == expected


@pytest.mark.parametrize("text", ["20 parsecs", "-1", "1e9", "GB", "1,5GB", "0x10", "nan", "٣GB"])
def test_what_is_no_size_is_refused_with_examples(home: Home, text: str) -> None:
    """The message shows how one looks."""
    (fault,) = home.faults(WANDB_OUTBOX_MAX_BYTES=text)
    assert fault.startswith("WANDB_OUTBOX_MAX_BYTES: max_bytes: expected a size such as")
    assert repr(text) in fault


def test_numbers_pass_through_as_they_are() -> None:
    """TOML numbers need no parsing."""
    assert parse_size(12) == 12
    with pytest.raises(ValueError, match="expected a size"):
        parse_size("much")


@pytest.mark.parametrize("rule", ["done.txt", "*.done", "run.log: finished in \\d+ s"])
def test_a_rule_for_done_is_a_pattern_or_a_pattern_with_an_expression(rule: str) -> None:
    """Both are accepted."""
    assert problem_with_rule(rule) is None


@pytest.mark.parametrize("rule", ["", "  ", "run.log: ("])
def test_a_rule_for_done_that_means_nothing_is_refused(home: Home, rule: str) -> None:
    """Before it silently never matches."""
    assert problem_with_rule(rule) is not None
    home.write(f"[[roots]]\npath = '/a'\ndone_when = ['''{rule}''']\n")
    assert "done_when" in home.faults()[0]


@pytest.mark.parametrize("setting", ["exclude", "include"])
def test_a_pattern_that_gitignore_cannot_read_is_refused(home: Home, setting: str) -> None:
    """Each by name, before a folder is looked at."""
    home.write(f"[[roots]]\npath = '/a'\n{setting} = ['*.bin', '\\', '!']\n")
    (fault,) = home.faults()
    assert f"roots.0.{setting}: '\\\\' is no gitignore pattern; '!' is no gitignore pattern" in fault


def test_an_empty_path_is_no_root(home: Home) -> None:
    """A variable that was not set must not make the working directory one."""
    home.write("[[roots]]\npath = ''\n")
    assert "roots.0.path: an empty path" in home.faults()[0]


# -- faults ----------------------------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once(home: Home) -> None:
    """One run of the command shows all there is to mend, each with its place."""
    home.write(
        'setle = 1\nconcurrency = 0\nlog_level = "loud"\nbase_url = "wandb"\nmax_bytes = "big"\n'
        '[[roots]]\npath = "/a"\non_crsh = "hold"\n'
        '[[roots]]\npath = "/b"\nconvention = "llm"\n'
        "[[roots]]\ntags = 3\n"
    )
    faults = "\n".join(home.faults(WANDB_OUTBOX_SETTLE="soon"))
    for words in (
        f"{home.file}: setle is no setting (did you mean settle?)",
        f"{home.file}: concurrency: input should be greater than or equal to 1 (given: 0)",
        f"{home.file}: log_level: input should be 'debug', 'info', 'warning' or 'error' (given: 'loud')",
        f"{home.file}: base_url: expected a URL such as {DEFAULT_BASE_URL} (given: 'wandb')",
        f"{home.file}: max_bytes: expected a size",
        "roots.0.on_crsh is no setting (did you mean on_crash?)",
        "root /b: unknown convention 'llm' (known: auto, llm-tts-eval, params-meta)",
        "roots.2.path: field required",
        "roots.2.tags: input should be a list",
        "WANDB_OUTBOX_SETTLE: settle: input should be a valid number",
    ):
        assert words in faults, words


def test_a_directory_with_two_sets_of_rules_is_a_fault(home: Home) -> None:
    """Whose entity would its runs go to? The same root said twice is no question."""
    home.write('[[roots]]\npath = "/a"\nentity = "x"\n[[roots]]\npath = "/a/"\nentity = "y"\n')
    assert home.faults() == ("root /a is given more than once, with different rules: keep one of them",)
    home.write(
        '[[roots]]\npath = "/a"\nentity = "x"\n[[roots]]\npath = "/a/"\nentity = "x"\n[[roots]]\npath = "/a/b"\n'
    )
    assert [root.path for root in home.settings().roots] == ["/a", "/a", "/a/b"]


def test_one_bracket_too_few(home: Home) -> None:
    """``[roots]`` is a table, and what is wanted is a list of them."""
    home.write('[roots]\npath = "/a"\n')
    assert home.faults() == (f"{home.file}: roots: input should be a list: write [[roots]], with two brackets",)


@pytest.mark.parametrize(
    "text",
    [
        "roots = 5",
        "roots = true",
        'roots = {path = "/a"}',
        "roots = [1]",
        "[[roots]]\npath = 7",
        '[[roots]]\npath = "/a"\nconvention = ["x"]',
        '[[roots]]\npath = "/a"\nconvention = {a = 1}',
        '[[roots]]\npath = "/a\\u0000b"',
        "settle = [1]",
        "settle = -1",
        "settle = nan",
        "stalled_after = inf",
        "rescan = 0",
        'site = ""',
        'base_url = "ftp://host"',
        'base_url = "https://"',
        'probe = "guess"',
        "[settle]\na = 1",
    ],
)
def test_values_of_the_wrong_kind_are_faults_and_no_tracebacks(home: Home, text: str) -> None:
    """Whatever TOML can say."""
    faults = home.write(text).faults()
    assert all(fault.startswith(f"{home.file}: ") for fault in faults)


def test_faults_of_roots_that_are_replaced_do_not_matter(home: Home) -> None:
    """`watch /new` does not trip over another root's mistakes, but does over its own."""
    home.write('[[roots]]\npath = "/old"\nnonsense = 1\n[[roots]]\npath = "/b"\nconvention = "llm"\n')
    assert [root.path for root in home.settings("/new").roots] == ["/new"]
    assert "unknown convention 'llm'" in home.faults("/b")[0]


def test_a_misspelt_variable_is_worth_a_line(home: Home) -> None:
    """It cannot be a fault, for it could be for another version; but it is not silent either."""
    loaded = home.load(WANDB_OUTBOX_SETLE="3", WANDB_OUTBOX_STATE_DIR="/s", WANDB_OUTBOX_SETTLE="4")
    assert loaded.notes == ("WANDB_OUTBOX_SETLE is set but is no setting (did you mean WANDB_OUTBOX_SETTLE?)",)


def test_settings_cannot_be_changed_once_loaded(home: Home) -> None:
    """What was checked stays as it was."""
    with pytest.raises(ValueError, match="frozen"):
        home.settings().settle = 1


# -- the key ---------------------------------------------------------------------------------------------------------

KEY = "0123456789" * 4


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """An environment with a key in each of the three places."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "wandb_api_key").write_text("from-credential\n")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password from-netrc\n")
    return {
        "WANDB_API_KEY": f" {KEY} ",
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "HOME": str(tmp_path),
    }


def test_the_key_is_looked_for_in_order(places: dict[str, str]) -> None:
    """The variable, the service's credential, the netrc entry of the server's host."""
    assert find_api_key(places, DEFAULT_BASE_URL) == KEY
    places["WANDB_API_KEY"] = ""
    assert find_api_key(places, DEFAULT_BASE_URL) == "from-credential"
    del places["CREDENTIALS_DIRECTORY"]
    assert find_api_key(places, DEFAULT_BASE_URL) == "from-netrc"
    places["NETRC"] = "/nowhere"
    assert find_api_key(places, DEFAULT_BASE_URL) is None


def test_the_key_of_another_host_is_not_taken(places: dict[str, str]) -> None:
    """The netrc key of one server never goes to another."""
    environ = {"HOME": places["HOME"]}
    assert find_api_key(environ, "https://wandb.company.test:8443/base") is None
    Path(places["HOME"], ".netrc").write_text("machine wandb.company.test login u password theirs\n")
    assert find_api_key(environ, "https://wandb.company.test:8443/base") == "theirs"


def test_a_credential_directory_without_our_file_falls_through(places: dict[str, str]) -> None:
    """Other services' credentials are none of ours."""
    os.unlink(os.path.join(places["CREDENTIALS_DIRECTORY"], "wandb_api_key"))
    assert find_api_key({**places, "WANDB_API_KEY": ""}, DEFAULT_BASE_URL) == "from-netrc"


@pytest.mark.parametrize("content", [b"machine", b"\xff\xfe", b"machine api.wandb.ai login u\n", b""])
def test_a_broken_netrc_holds_no_key(places: dict[str, str], content: bytes) -> None:
    """No traceback: "there is no API key" is said by whoever needs it."""
    Path(places["HOME"], ".netrc").write_bytes(content)
    assert find_api_key({"HOME": places["HOME"]}, DEFAULT_BASE_URL) is None


def test_a_broken_credential_falls_through(places: dict[str, str]) -> None:
    """Bytes that are no text are no key."""
    Path(places["CREDENTIALS_DIRECTORY"], "wandb_api_key").write_bytes(b"\xff\xfe")
    assert find_api_key({**places, "WANDB_API_KEY": ""}, DEFAULT_BASE_URL) == "from-netrc"
