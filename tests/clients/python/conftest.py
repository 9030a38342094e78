"""Servers for the suites, started once. FIRECREST and FIRECREST_SCRIPTED are programs that were built before."""

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass

import httpx
import pytest

ANNOUNCED = re.compile(r"listening on (http://\S+)")


@dataclass
class Server:
    """A server that runs, and where."""

    url: str
    process: subprocess.Popen

    def running(self) -> int:
        """How many answers run now."""
        text = httpx.get(f"{self.url}/metrics").text
        return int(re.search(r"^firecrest_running(?:\{[^}]*\})? (\d+)", text, re.M)[1])

    def rests(self) -> None:
        """Waits until none runs."""
        until = time.monotonic() + 10
        while (count := self.running()) != 0:
            assert time.monotonic() < until, f"{count} answers still run"
            time.sleep(0.02)


def start(variable: str, arguments: list[str], stream: str):
    program = os.environ.get(variable)
    if not program:
        pytest.fail(f"{variable} does not name a program: build it, and set the variable")
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: subprocess.PIPE}
    process = subprocess.Popen([program, *arguments], text=True, env={**os.environ, "RUST_LOG": "warn"}, **pipes)
    output = getattr(process, stream)
    said = []
    for line in output:
        said.append(line)
        if found := ANNOUNCED.search(line):
            # What it says later must not fill the pipe.
            threading.Thread(target=lambda: [None for _ in output], daemon=True).start()
            yield Server(found[1], process)
            process.terminate()
            # No connection is left by now but idle ones.
            assert process.wait(timeout=40) == 0
            return
    pytest.fail(f"{program} ended before it listened:\n{''.join(said)}")


@pytest.fixture(scope="session")
def scripted():
    """Scripts in place of models: see runtime/native/examples/scripted_server.rs."""
    yield from start("FIRECREST_SCRIPTED", [], "stdout")


@pytest.fixture(scope="session")
def embedded():
    """The model that ships."""
    arguments = ["serve", "--no-auth", "--model", "embedded", "--port", "0", "--store", ":memory:"]
    yield from start("FIRECREST", arguments, "stderr")
