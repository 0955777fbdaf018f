"""Every command in docs/plugins.md works, one after the other, as the page has them."""

import os
import socket
import subprocess
from pathlib import Path

from gateway import BIN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def commands():
    """Those behind a `$` in the page's console blocks, with what belongs to a here-document."""
    found, inside, document = [], False, False
    for line in PAGE.read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            found.append(line[2:])
            document = "<<" in line
        elif inside and document:
            found[-1] += "\n" + line
            document = line != "END"
    return found


def test_the_page_has_commands():
    assert len(commands()) > 25
    assert any("--lang rust" in command for command in commands())
    assert any("--lang python" in command for command in commands())


def test_every_command_of_the_page_works(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aiproxy-host").symlink_to(BIN)
    (tmp_path / "work").mkdir()
    said = tmp_path / "said"
    # What runs in the background ends with the script; each command is told before it runs.
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
    for command in commands():
        script += f"cat <<'TOLD'\n$ {command}\nTOLD\n{command}\n"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    with said.open("w") as output:
        ran = subprocess.run(
            ["bash", "-c", script.replace("127.0.0.1:8001", f"127.0.0.1:{port}")],
            cwd=tmp_path / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=900,
            check=False,
        )
    text = said.read_text()
    assert ran.returncode == 0, text[-6000:]
    # The same decision in both languages.
    told = [part.split("\n$ ")[0].splitlines() for part in text.split("$ aiproxy-host explain ")[1:]]
    plans = [lines[next(i for i, line in enumerate(lines) if line.startswith("upstream")) :] for lines in told]
    assert len(plans) == 2 and plans[0] == plans[1], plans
    assert "serves and is pinned" in text and '"pin":{"version":"' in text
