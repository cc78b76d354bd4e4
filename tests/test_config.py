"""Configuration: profile < file < command line, and every mistake told by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rostok.config import PROFILES, Settings, resolve
from rostok.errors import ConfigError


def yaml_file(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_later_sources_win_and_leave_their_neighbours_alone(tmp_path: Path) -> None:
    """Prevents: a file or option that resets its section's other settings, or that the profile overrules."""
    file = yaml_file(tmp_path, "theme: from the file\ncorpus: {pages: 300, tries: 2}\nauthor: {count: 9}\n")
    settings = resolve(
        profile="night",
        file=file,
        options={"author": {"count": 5}, "theme": None},
        assignments=["corpus.pages=400"],
    )
    assert settings.theme == "from the file"
    assert (settings.corpus.pages, settings.corpus.tries) == (400, 2)
    assert settings.author.count == 5
    assert settings.author.nodes == Settings(theme="x").author.nodes


def test_saved_settings_stand_in_for_the_profile() -> None:
    """Prevents: a resumed run that falls back to the profile's values and makes other seeds."""
    saved = resolve(profile="demo", options={"author": {"count": 7}}).model_dump(mode="json")
    assert resolve(saved=saved).author.count == 7
    assert resolve(profile="demo", saved=saved).author.count == 7
    assert resolve(profile="night", saved=saved).author.count == PROFILES["night"]["author"]["count"]


def test_the_resolved_settings_survive_the_disk() -> None:
    """Prevents: a run.json that does not give back the settings it was written from."""
    settings = resolve(profile="night", assignments=["training.learning_rate=0.001"])
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("corpus.page=300", "did you mean 'pages'"),
        ("corpuss.pages=300", "did you mean 'corpus'"),
        ("training.learnig_rate=1", "did you mean 'learning_rate'"),
        ("zzz=1", "Known: profile, theme"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(assignment: str, hint: str) -> None:
    """Prevents: a mistyped setting that is passed over in silence, so that a night runs with the default."""
    with pytest.raises(ConfigError, match=hint):
        resolve(assignments=[assignment])


def test_an_unknown_profile_names_the_nearest_known_one() -> None:
    """Prevents: an unknown profile that falls back to the demo."""
    with pytest.raises(ConfigError, match="did you mean 'night'"):
        resolve(profile="nigth")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("theme: [unclosed\n", "not valid YAML.*line"),
        ("- a\n- b\n", "must hold keys and values"),
        ("corpus: 5\n", "setting 'corpus' holds keys and values"),
        ("corpus: {1: 2}\n", "unknown setting 'corpus.1'"),
    ],
)
def test_a_bad_file_is_told_by_name(tmp_path: Path, text: str, reason: str) -> None:
    """Prevents: a YAML typo that ends in a parser's traceback."""
    with pytest.raises(ConfigError, match=reason):
        resolve(file=yaml_file(tmp_path, text))


def test_bytes_that_are_no_text_are_told_by_name(tmp_path: Path) -> None:
    """Prevents: a binary file given as configuration that ends in a UnicodeDecodeError."""
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00theme")
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve(file=path)


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    """Prevents: a mistyped path that runs the profile without the file."""
    with pytest.raises(ConfigError, match=r"no configuration file .*absent\.yaml"):
        resolve(file=tmp_path / "absent.yaml")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    """Prevents: a file of comments only that is refused as `NoneType`."""
    assert resolve(file=yaml_file(tmp_path, "# nothing yet\n")) == resolve()


@pytest.mark.parametrize("theme", ["", "   \n\t ", "123 …", "!", "🌊🌊", "the sea\x1b[2J", "the \u202esea"])
def test_a_theme_says_something(theme: str) -> None:
    """Prevents: a night spent on an empty theme."""
    with pytest.raises(ConfigError, match="theme is empty|theme holds no letters|control character"):
        resolve(options={"theme": theme})


def test_a_long_value_is_not_said_again_whole() -> None:
    """Prevents: an error of a hundred thousand characters for a theme of as many."""
    with pytest.raises(ConfigError) as caught:
        resolve(options={"theme": "x" * 100_000})
    assert "100000 characters; 300 are enough" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_theme_is_one_line() -> None:
    """Prevents: a line break in the theme that ends the agents' prompts early."""
    assert resolve(options={"theme": " a\n harbour \ttown "}).theme == "a harbour town"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"author": {"count": 0}}, "author.count.*given: 0"),
        ({"corpus": {"pages": "many"}}, "corpus.pages.*given: 'many'"),
        ({"corpus": {"shares": {"written": 0.9}}}, r"corpus.shares.*add up to 1, not 1\.78"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate"),
    ],
)
def test_a_value_that_does_not_fit_names_setting_and_reason(options: dict[str, object], reason: str) -> None:
    """Prevents: a value that is clipped in silence, or an error that does not say which setting is meant."""
    with pytest.raises(ConfigError, match=reason):
        resolve(options=options)


def test_shares_may_be_moved_as_long_as_they_add_up() -> None:
    """Prevents: rounding of decimal fractions that refuses shares which do add up to 1."""
    shares = {"written": 0.1, "composed": 0.2, "dialogue": 0.3, "replay": 0.4}
    assert resolve(options={"corpus": {"shares": shares}}).corpus.shares.replay == 0.4


@pytest.mark.parametrize("assignment", ["corpus.pages", "=3", "corpus.pages=[1"])
def test_a_broken_assignment_is_told(assignment: str) -> None:
    """Prevents: `--set` without a value that sets nothing."""
    with pytest.raises(ConfigError, match="--set"):
        resolve(assignments=[assignment])


def test_no_similarity_is_promised_that_the_index_misses() -> None:
    """Prevents: corpus.near_duplicate=0.3 that lets three of four such pairs pass, and says nothing."""
    found = 1 - (1 - 0.6**4) ** 32  # of the pairs that are just too near, by 32 bands of 4 rows
    assert found > 0.98
    assert resolve(assignments=["corpus.near_duplicate=0.6"]).corpus.near_duplicate == 0.6
    with pytest.raises(ConfigError, match=r"setting 'corpus.near_duplicate'.* 0\.6 \(given: 0\.59\)"):
        resolve(assignments=["corpus.near_duplicate=0.59"])
