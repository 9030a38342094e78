"""What runs here is what requirements.txt says, and all that these need is what requirements.lock says."""

from importlib.metadata import version
from pathlib import Path

import pytest


@pytest.mark.parametrize("file", ["requirements.txt", "requirements.lock"])
def test_the_clients_are_those_that_are_pinned(file):
    for line in Path(__file__).with_name(file).read_text().splitlines():
        if not line.startswith("#"):
            name, pinned = line.split("==")
            assert version(name) == pinned
