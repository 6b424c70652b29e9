"""What every test shares: the same generated examples in every run, and no stray configuration."""

import os

import hypothesis
import pytest

# No deadline: on two cores shared with daemons time says little. HYPOTHESIS_PROFILE=explore looks for new examples.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(autouse=True)
def _no_lossbook_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own LOSSBOOK_* settings must not reach a test."""
    for name in [name for name in os.environ if name.startswith("LOSSBOOK_")]:
        monkeypatch.delenv(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's folder gives its marker, so that none is forgotten."""
    for item in items:
        parts = item.path.parts
        if "process" in parts:
            item.add_marker(pytest.mark.process)
        if "property" in parts:
            item.add_marker(pytest.mark.property)
