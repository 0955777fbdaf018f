"""Builds my-plugin.wasm; `build.py test` runs the unit tests instead, and `build.py --stub-wasi` makes a component that
imports nothing of WASI.

Everything that is installed goes into the folder build/ beside this file: a virtual environment with the tool that
requirements.txt names.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
VENV = BUILD / "venv"
BINDINGS = BUILD / "bindings"
# Beside this file; in the gateway's own repository at its root.
WIT = next(folder for folder in (HERE / "wit", HERE / "../../../wit") if folder.is_dir())
COMPONENT = HERE / "my-plugin.wasm"


def main() -> None:
    tool = install()
    if sys.argv[1:] == ["test"]:
        shutil.rmtree(BINDINGS, ignore_errors=True)
        componentize(tool, "bindings", BINDINGS)
        path = os.pathsep.join([str(HERE), str(BINDINGS)])
        run(sys.executable, "-m", "unittest", "discover", "--start-directory", HERE, env=os.environ | {"PYTHONPATH": path})
    elif sys.argv[1:] in ([], ["--stub-wasi"]):
        # With stubs for what Python asks of its surroundings, it stops short of telling where an exception came from; the
        # gateway's log does.
        componentize(tool, "componentize", *sys.argv[1:], "--python-path", HERE, "--output", COMPONENT, "plugin")
        print(f"{COMPONENT.name}: {COMPONENT.stat().st_size} bytes")
    else:
        sys.exit("usage: build.py [test | --stub-wasi]")


def install() -> Path:
    """The tool, installed where it is missing or the wanted version has changed."""
    programs = VENV / ("Scripts" if os.name == "nt" else "bin")
    requirements = HERE / "requirements.txt"
    mark = VENV / "installed"
    if not mark.exists() or mark.read_text() != requirements.read_text():
        venv.create(VENV, with_pip=True, clear=True)
        run(programs / "python", "-m", "pip", "install", "--quiet", "--requirement", requirements)
        mark.write_text(requirements.read_text())
    return programs / "componentize-py"


def componentize(tool: Path, command: str, *options: str | Path) -> None:
    run(tool, "--quiet", "--wit-path", WIT, "--world", "channel-plugin", command, *options)


def run(*command: str | Path, **options) -> None:
    ended = subprocess.run([str(part) for part in command], **options)
    if ended.returncode != 0:
        sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
