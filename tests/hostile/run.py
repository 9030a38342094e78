#!/usr/bin/env python3
"""Sends hostile bodies to a running server, and looks after those who share it.

    python3 tests/hostile/run.py --firecrest target/release/firecrest --cases 2000

Holds that the server does not die, that nothing of another key waits for longer than a second (beyond what it takes on an idle server), that no answer is a 5xx
(529, which says that there is too much to do, is counted) or quotes much of its request, that memory is back
within ten percent (what a key's conversations may hold apart), and that the process ends in its
time while a request is being read. A case that fails is told with the seed, its number and its body: run it alone with --seed S --first N --cases 1.
"""

import argparse
import http.client
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import bodies

# Longer than anything may take: the limit on work, and an answer of a few tokens.
HANG = 60
# Longest error that is told, in bytes.
MOST_TOLD = 4096
DRAIN = 5
# What a key's conversations may take for as long as they are kept (`ThreadLimits::key_bytes`): no leak.
KEPT_MB = 32
CONFIG = """
listen = "127.0.0.1:{port}"
store = {store}
[timeouts]
drain = {drain}
[tiers.tests]
concurrent = 128
[[models]]
path = "embedded"
backend = "cpu"
threads = 1
preload = true
"""


class Server:
    def __init__(self, firecrest, port, folder):
        store = str(folder / "store.sqlite")
        config = folder / "server.toml"
        config.write_text(CONFIG.format(port=port, store=json.dumps(store), drain=DRAIN))
        self.keys = [self.key(firecrest, store, name) for name in ("hostile", "canary")]
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen([firecrest, "serve", "--config", str(config)], stderr=self.log)
        self.port = self.listening(folder / "log")

    def listening(self, log):
        """Returns the port, once the log says it and the server is ready."""
        until = time.monotonic() + HANG
        while time.monotonic() < until and self.alive():
            found = re.search(r"listening on http://[^ ]*:(\d+)\s", log.read_text(errors="replace"))
            if found:
                self.port = int(found[1])
                if self.ask(1, "/readyz", None)[0] == 200:
                    return self.port
            time.sleep(0.1)
        raise SystemExit("the server did not become ready:\n" + log.read_text(errors="replace")[-2000:])

    def key(self, firecrest, store, name):
        made = subprocess.run([firecrest, "keys", "create", "--name", name, "--tier", "tests", "--store", store, "--json"], stdout=subprocess.PIPE, check=True)
        made = json.loads(made.stdout)
        return next(value for value in made.values() if isinstance(value, str) and value.startswith("fc-") and value.count("-") >= 2)

    def alive(self):
        return self.process.poll() is None

    def resident(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def ask(self, key, route, body, leaves=False, timeout=HANG):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"x-api-key": self.keys[key], "content-type": "application/json"}
        if route.startswith("/v1/messages"):
            headers["anthropic-version"] = "2023-06-01"
        try:
            connection.request("GET" if body is None else "POST", route, body, headers)
            if leaves:
                return None
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Canary(threading.Thread):
    """Asks short things with a key of its own, all the while."""

    CHAT = json.dumps({"model": bodies.CHAT, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]})

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.over, self.waits, self.wrong, self.busy = server, threading.Event(), [], [], 0

    def once(self):
        for route, body in (("/healthz", None), ("/v1/messages", self.CHAT)):
            since = time.monotonic()
            status, told = self.server.ask(1, route, body)
            self.waits.append((time.monotonic() - since, route))
            # A model's queue may be full for a moment: one answer may have 128 sequences.
            if status == 529:
                self.busy += 1
            elif status != 200:
                self.wrong.append(f"{route}: {status} {told[:200]!r}")

    def run(self):
        while not self.over.is_set():
            try:
                self.once()
            except OSError as error:
                self.wrong.append(repr(error))
                self.waits.append((HANG, "lost"))
            self.over.wait(0.05)


def judged(route, outcome):
    """What is wrong with an answer."""
    status, told = outcome
    if status >= 500 and status != 529:
        return f"status {status}: {told[:300]!r}"
    if status >= 400:
        if len(told) > MOST_TOLD:
            return f"an error of {len(told)} bytes: {told[:300]!r}"
        try:
            if not json.loads(told)["error"]["message"]:
                return "an error that says nothing"
        except (ValueError, KeyError, TypeError):
            return f"status {status} without an error: {told[:300]!r}"
    return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--firecrest", required=True)
    arguments.add_argument("--cases", type=int, default=2000)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--seed", default=str(random.SystemRandom().randrange(2**32)))
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--callers", type=int, default=4)
    arguments.add_argument("--wait", type=float, default=1.0, help="seconds that others may wait beyond what they do on an idle server")
    arguments.add_argument("--report", type=pathlib.Path, default=pathlib.Path("target/hostile"))
    options = arguments.parse_args()
    print(f"seed {options.seed}, cases {options.first} to {options.first + options.cases - 1}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="firecrest-hostile-"))
    faults, lock, statuses = [], threading.Lock(), {}
    server = Server(options.firecrest, options.port, folder)

    def fault(number, why):
        route, body, _ = bodies.case(options.seed, number)
        options.report.mkdir(parents=True, exist_ok=True)
        path = options.report / f"{options.seed}-{number}.json"
        path.write_bytes(body)
        with lock:
            faults.append(f"seed {options.seed} case {number} {route}: {why}\n    body of {len(body)} bytes, in {path}: {body[:200]!r}")
        print(faults[-1], flush=True)

    slow = []

    def send(numbers):
        for number in numbers:
            if not server.alive():
                return
            route, body, leaves = bodies.case(options.seed, number)
            since = time.monotonic()
            try:
                outcome = server.ask(0, route, body, leaves)
            except OSError as error:
                outcome = None
                fault(number, f"no answer: {error!r}" if server.alive() else "the server died")
            slow.append((time.monotonic() - since, number, route))
            if outcome is not None:
                with lock:
                    statuses[outcome[0]] = statuses.get(outcome[0], 0) + 1
                why = judged(route, outcome)
                if why:
                    fault(number, why)

    def send_all(numbers):
        numbers = list(numbers)
        threads = [threading.Thread(target=send, args=(numbers[at :: options.callers],)) for at in range(options.callers)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

    try:
        # What it takes while nobody else is there, the first of all left out: it waits for the model.
        calm = Canary(server)
        calm.once()
        calm.waits.clear()
        for _ in range(20):
            calm.once()
        usual = max(wait for wait, _ in calm.waits)
        canary = Canary(server)
        canary.start()
        end = options.first + options.cases
        warm = min(options.first + max(options.cases // 5, min(options.cases, 200)), end)
        send_all(range(options.first, warm))
        time.sleep(6)
        before = server.resident()
        since = time.monotonic()
        send_all(range(warm, end))
        took = time.monotonic() - since
        canary.over.set()
        canary.join(HANG)
        time.sleep(6)
        if not server.alive():
            faults.append(f"the server died: {server.process.poll()}")
        else:
            after = server.resident()
            worst = max(canary.waits, default=(0, ""))
            print(f"answers by status {dict(sorted(statuses.items()))}; {took:.0f} s; resident {before:.0f} MB, then {after:.0f} MB")
            print(f"others waited {worst[0]:.2f} s at most, at {worst[1]}, of {len(canary.waits)}; {usual:.2f} s on the idle server; {canary.busy} were 529")
            print(f"slowest cases: {[(round(t, 2), n, r) for t, n, r in sorted(slow)[-5:]]}")
            faults += canary.wrong[:5]
            if canary.busy * 100 > len(canary.waits):
                faults.append(f"another key was sent away {canary.busy} times of {len(canary.waits)}")
            if worst[0] > usual + options.wait:
                faults.append(f"another key waited {worst[0]:.2f} s at {worst[1]}")
            if warm < end and after > before * 1.1 + 8 + KEPT_MB:
                faults.append(f"memory does not come back: {before:.0f} MB before, {after:.0f} MB after")
            # It ends in its time, though it works on something.
            body = json.dumps({"model": bodies.CHAT, "max_tokens": 1, "messages": [{"role": "user", "content": "a" * 4_000_000}]})
            server.ask(0, "/v1/messages", body, leaves=True)
            since = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            try:
                server.process.wait(DRAIN + 15)
                print(f"ended {time.monotonic() - since:.1f} s after SIGTERM")
            except subprocess.TimeoutExpired:
                faults.append("the server did not end after SIGTERM")
    finally:
        server.process.kill()
        if faults:
            options.report.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "log", options.report / f"{options.seed}.log")
        shutil.rmtree(folder, ignore_errors=True)
    for line in faults:
        print(f"FAULT {line}")
    print("passed" if not faults else f"{len(faults)} faults; seed {options.seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
