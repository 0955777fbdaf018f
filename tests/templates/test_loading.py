"""Every component loads under the same empty rights, whatever its toolchain makes it import, and refuses wrong settings by
name."""

import os
import re
import subprocess
import time

import gateway
import pytest
from conftest import COMPONENTS, LANGUAGES

WRONG = {
    "unknown": ({"prefx": "/v1"}, ["settings: unknown setting `prefx`", "known: prefix, models"]),
    "number": ({"prefix": 1}, ["settings.prefix: expected a string"]),
    "relative": ({"prefix": "v1"}, ["settings.prefix: "]),
    "spaced": ({"prefix": "/v 1"}, ["settings.prefix: "]),
    "text": ({"models": "small"}, ["settings.models: expected a list of strings"]),
    "numbers": ({"models": ["small", 1]}, ["settings.models: expected a list of strings"]),
}

# Interfaces of WASI that stand for what each toolchain imports; none: it imports nothing of WASI.
IMPORTS = {
    "c": set(),
    "go": {"cli/environment", "filesystem/types", "random/random"},
    "js": {"cli/environment", "filesystem/types", "random/insecure-seed"},
    "js-stub": set(),
    "python": {"cli/environment", "filesystem/types", "sockets/tcp"},
    "python-stub": set(),
    "rust": {"io/streams", "cli/stderr"},
}


def test_all_that_were_to_be_built_are_here():
    assert {*LANGUAGES, "rust"} == {*IMPORTS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_imports_what_its_toolchain_is_known_for(language):
    command = [os.environ["AIPROXY_WASM_TOOLS"], "component", "wit", COMPONENTS / f"{language}.wasm"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    imported = set(re.findall(r"^  import wasi:(.+)@0\.2\.\d+;$", said, re.MULTILINE))
    assert imported >= IMPORTS[language]
    assert bool(imported) == bool(IMPORTS[language])


@pytest.mark.parametrize("language", [language for language in LANGUAGES if not language.endswith("-stub")])
def test_wrong_settings_fail_the_check_by_name(language, tmp_path, measured):
    channels = {id: settings for id, (settings, _) in WRONG.items()}
    gateway.lay_out(tmp_path, COMPONENTS / f"{language}.wasm", channels)
    started = time.monotonic()
    code, said = gateway.check(tmp_path)
    # Nearly all of it is compiling, which is done once, and at the lowest priority.
    measured.setdefault(language, {})["check, s"] = f"{time.monotonic() - started:.1f}"
    assert code != 0
    for id, (_, parts) in WRONG.items():
        lines = [line for line in said.splitlines() if f"channel {id}:" in line]
        assert len(lines) == 1 and all(part in lines[0] for part in parts), said
