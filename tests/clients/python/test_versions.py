"""What runs here is what requirements.txt says."""

from importlib.metadata import version
from pathlib import Path


def test_the_clients_are_those_that_are_pinned():
    for line in Path(__file__).with_name("requirements.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, pinned = line.split("==")
            assert version(name) == pinned
