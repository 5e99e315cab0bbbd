"""Shared fixtures: a small phantom, and the real LGG folder where it is at hand."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# The phantom that `--data phantom` makes is kept under a cache folder: never the user's own in a test. Set before the
# package is imported, and inherited by every process that a test starts.
_CACHE = tempfile.mkdtemp(prefix="brainseg-tests-")
os.environ["BRAINSEG_CACHE"] = _CACHE


#: Files that take longest: begun first, so that both workers end together.
_LONGEST = (
    "distribution",
    "training",
    "resume",
    "stopping",
    "length",
    "page_browser",
    "export",
    "kills",
    "monitoring",
    "regions",
    "names",
    "folding",
    "refusals",
    "models_slow",
    "page_hostile",
    "attention_maps",
    "damage",
    "docs",
    "examples",
    "reports",
)


def pytest_collection_modifyitems(items):
    indices = {f"test_{name}": index for index, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: indices.get(item.path.stem, len(indices)))


def pytest_unconfigure(config):
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What a test printed may hold names that are not UTF-8, which a worker cannot send."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium that tells nobody of itself."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium to open a page with")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """Folder kaggle_3m of six small patients; read it, do not write to it."""
    from brainseg_keras.data.phantom.lgg import write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom"), patients=6, slices=8, size=48, seed=3)


@pytest.fixture
def own_phantom(phantom, tmp_path):
    """A copy of the phantom that a test may damage."""
    return Path(shutil.copytree(phantom, tmp_path / "kaggle_3m"))


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Five small patients, packed; read it, do not write to it."""
    from brainseg_keras.data.phantom.lgg import write_phantom
    from brainseg_keras.data.sources import open_source
    from brainseg_keras.data.store import write_store

    folder = tmp_path_factory.mktemp("training")
    write_phantom(folder, patients=5, slices=8, size=64, seed=1)
    return write_store(open_source(folder), folder / "phantom.h5")


@pytest.fixture(scope="session")
def finished(store, tmp_path_factory):
    """A run of two epochs; read it, do not write to it."""
    from runs import tiny

    from brainseg_keras.training import train

    return train(tiny(store), output=tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def own_run(finished, tmp_path):
    """A copy of that run that a test may damage."""
    from brainseg_keras.training import RunFolder

    return RunFolder(shutil.copytree(finished.path, tmp_path / "run"))


@pytest.fixture(scope="session")
def lgg():
    """The real data: BRAINSEG_LGG names the folder that holds kaggle_3m."""
    folder = os.environ.get("BRAINSEG_LGG")
    if not folder:
        pytest.skip("BRAINSEG_LGG is unset: no real LGG data")
    return Path(folder)


@pytest.fixture(scope="session")
def brats():
    """Real volumes: BRAINSEG_BRATS names the folder that holds msd_task01 and brats2015."""
    folder = os.environ.get("BRAINSEG_BRATS")
    if not folder:
        pytest.skip("BRAINSEG_BRATS is unset: no real BraTS data")
    return Path(folder)
