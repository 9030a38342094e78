"""LiteLLM's proxy before a null upstream: the highest rate that it sustains, and what it adds to an answer there.

    python -m venv /tmp/litellm && /tmp/litellm/bin/pip install 'litellm[proxy]'
    cargo build --release -p firecrest-load
    python tests/benches/overhead.py --litellm /tmp/litellm/bin/litellm

The upstream is this repository's server with a script in a model's place (`load serve`), without keys; it answers in well under a
millisecond. The proxy asks for a key, as ours does beside it in `load overhead`; it has no database and no logging callbacks, which
is the fastest that it runs. `load rate --sustain` doubles the rate until answers take longer than the given 99th percentile, and
halves between. Then the upstream alone is asked at the rate that was found, so that the difference is the proxy's own.
"""
import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODY = {"model": "hello", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello there, how are you today?"}]}
KEY = "sk-load-1234"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(url, process, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            sys.exit(f"{url}: the process ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"{url}: no answer within {seconds} s")


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rate(load, address, options):
    command = [load, "rate", "--address", address, "--path", "/v1/chat/completions", "--header", f"authorization: Bearer {KEY}"]
    command += ["--body", json.dumps(BODY), *options]
    print("$", " ".join(command[1:2] + command[3:4] + options), flush=True)
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", default="litellm", help="the proxy's program")
    parser.add_argument("--load", default=str(ROOT / "target/release/load"), help="the load generator")
    parser.add_argument("--from-rate", type=float, default=25, help="requests a second to begin with")
    parser.add_argument("--seconds", type=int, default=10, help="how long each rate is kept up")
    parser.add_argument("--p99", type=float, default=500, help="milliseconds: what counts as sustained")
    parser.add_argument("--workers", type=int, default=1, help="the proxy's processes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "server.toml").write_text('listen = "127.0.0.1:0"\nstore = ":memory:"\nauth = false\n')
        upstream = subprocess.Popen([options.load, "serve", "--config", folder / "server.toml"], stdout=subprocess.PIPE,
                                    stderr=subprocess.DEVNULL, text=True)
        proxy = None
        try:
            address = upstream.stdout.readline().strip().removeprefix("listening on http://")
            port = free_port()
            (folder / "proxy.yaml").write_text(json.dumps({
                "model_list": [{"model_name": "hello", "litellm_params": {
                    "model": "openai/hello", "api_base": f"http://{address}/v1", "api_key": "none"}}],
                "general_settings": {"master_key": KEY},
                "litellm_settings": {"set_verbose": False, "request_timeout": 60},
            }))
            environment = os.environ | {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
            proxy = subprocess.Popen([options.litellm, "--config", folder / "proxy.yaml", "--host", "127.0.0.1", "--port", str(port),
                                      "--num_workers", str(options.workers)], env=environment, cwd=folder,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(f"http://127.0.0.1:{port}/health/liveliness", proxy, 180)
            kept = ["--seconds", str(options.seconds)]
            # Warms it up: the first answers load half of Python.
            rate(options.load, f"127.0.0.1:{port}", ["--rate", "10", "--seconds", "3"])
            found = rate(options.load, f"127.0.0.1:{port}", ["--rate", str(options.from_rate), "--sustain", str(options.p99), *kept])
            print(found)
            best = found.split("sustains ")[1].split()[0]
            print("the upstream alone:")
            print(rate(options.load, address, ["--rate", best, *kept]))
        finally:
            for process in (proxy, upstream):
                if process is not None and process.poll() is None:
                    end(process)


if __name__ == "__main__":
    main()
