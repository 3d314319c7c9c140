"""The server of one version, for files that ask it and nothing else of it; others start theirs in their own way."""

import pytest
from registered import version_folder
from serving_process import laid_out, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_store):
    version = version_folder(tmp_path_factory, empty_store, {"seed": 1})
    return laid_out(version, tmp_path_factory.mktemp("served") / "one", 1)


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("log"), ["tasks.serving", str(folder)]) as running:
        yield running
