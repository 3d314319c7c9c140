"""A recipe that is run again: which version its alias is on, and when a new one is made."""

import pytest
from registered import RECIPE, versions


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"seed": 1}):
        yield home


@pytest.fixture
def again(home):
    """Runs the recipe again; gives the version that it ends with, and where `candidate` is then."""
    from flows.compression import compress
    from flows.recipe_file import check_settings
    from tasks.store import registry

    def run() -> tuple[int, int | None]:
        result = compress(check_settings({**RECIPE, "seed": 1}))
        return result.version, registry.aliases_of("tiny").get("candidate")

    return run


def test_a_kill_before_the_alias_is_set_is_mended_by_the_next_run(again):
    """The version is there; the alias is not, nor is what tells that the stage came to its end."""
    from tasks.store import registry, tracking

    registry.set_alias("tiny", "candidate", None)
    tracking.client().delete_tag(registry.version_of("tiny", 1).run, tracking.RESULT)
    assert again() == (1, 1)


def test_a_version_that_is_reused_gets_its_alias_back(again):
    from tasks.store import registry

    registry.set_alias("tiny", "candidate", None)
    assert again() == (1, 1)


def test_a_damaged_version_is_registered_anew_and_the_alias_goes_there(again):
    from tasks.store import registry, tracking

    labels = tracking.download("models:/tiny/1") / "labels.json"
    kept = labels.read_bytes()
    labels.unlink()
    assert again() == (2, 2)
    labels.write_bytes(kept)  # both are whole now
    registry.set_alias("tiny", "candidate", 1)
    assert again() == (2, 2)
