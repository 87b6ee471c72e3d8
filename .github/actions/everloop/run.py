"""Runs the `everloop` command for the action: job summary, outputs, and the comment of a pull request."""

from __future__ import annotations

import glob
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

SERVICES = ("ingest", "feature", "training", "registry", "serving", "monitoring")
MODES = ("validate", "diff", "apply")
MARK = "<!-- everloop: what loop files would do -->"
"""The beginning of the action's comment, by which it is found and replaced."""
GITHUB_TIMEOUT_S = 20
COMMENTS_READ = 1_000


class Found(NamedTuple):
    """What the command said: as Markdown, whether something would change, and whether a file would be refused."""

    text: str
    changes: bool
    refused: bool


class Refused(Exception):
    """What the action was given cannot be used; the text says what to do."""


def main() -> int:
    """The exit status."""
    try:
        mode, files = _mode(), _files()
        found = _apply(files) if mode == "apply" else _ask(mode, files)
    except Refused as e:
        _say(f"::error title=Everloop::{_escaped(str(e))}\n")
        return 1
    _report(found)
    if _input("COMMENT").lower() == "true":
        _comment(found)
    return int(found.refused)


def _mode() -> str:
    if (mode := _input("MODE")) not in MODES:
        raise Refused(f"mode: {mode!r} is none of {', '.join(MODES)}")
    return mode


def _files() -> list[str]:
    """The files, each once, in the order of the patterns."""
    found = dict[str, None]()
    for pattern in _input("FILES").splitlines():
        if pattern := pattern.strip():
            found |= dict.fromkeys(sorted(glob.glob(pattern, recursive=True)))
    if not found:
        raise Refused(f"files: nothing is named like {_input('FILES')!r}")
    return [os.path.join(".", name) for name in found]


def _ask(mode: str, files: list[str]) -> Found:
    """What `everloop validate` or `everloop diff` says."""
    named = [part for file in files for part in ("--file", file)]
    told = _everloop(mode, *named, "--json")
    if told.returncode not in (0, 1) or not told.stdout.startswith("["):
        raise Refused(told.stderr.strip() or f"everloop {mode} ended with {told.returncode}")
    one_by_one = json.loads(told.stdout)
    refused = told.returncode == 1
    changes = any(one.get("change") in ("created", "changed") for one in one_by_one)
    return Found(_everloop(mode, *named, "--markdown").stdout, changes, refused)


def _apply(files: list[str]) -> Found:
    """Apply all files, or none where one would be refused; what was done, behind what it was to do."""
    before = _ask("diff", files)
    if before.refused:
        return before
    lines, failed = [before.text, "\n### Applied\n\n"], False
    for file in files:
        done = _everloop("apply", "--file", file)
        failed = failed or done.returncode != 0
        lines += [f"- {_code(line)}\n" for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return Found("".join(lines), before.changes, failed)


def _everloop(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "everloop", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)


def _environment() -> dict[str, str]:
    """What the command needs; the token of GitHub is not for it."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_ACTION_")}
    if not inherited.get("EVERLOOP_TOKEN"):
        inherited.pop("EVERLOOP_TOKEN", None)
    if url := _input("URL"):
        inherited |= {f"EVERLOOP_{name.upper()}_URL": url.replace("{service}", name) for name in SERVICES}
    return {**inherited, "NO_COLOR": "1"}


def _report(found: Found) -> None:
    """Write log, job summary and outputs. In the log nothing of a loop file is a command of the runner."""
    stop = secrets.token_hex(16)
    _say(f"::stop-commands::{stop}\n{found.text}\n::{stop}::\n")
    _append("GITHUB_STEP_SUMMARY", f"{found.text}\n")
    end = secrets.token_hex(16)
    _append("GITHUB_OUTPUT", f"diff<<{end}\n{found.text}\n{end}\n")
    _append("GITHUB_OUTPUT", f"changes={str(found.changes).lower()}\nrefused={str(found.refused).lower()}\n")


def _comment(found: Found) -> None:
    """Write the comment, or write it anew; where it cannot be written, a warning says why."""
    try:
        number = _pull_request()
        if number is None:
            _say("::notice title=Everloop::there is no pull request to comment on\n")
            return
        repository = f"/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
        known = _find_comment(f"{repository}/{number}/comments")
        path = f"{repository}/{number}/comments" if known is None else f"{repository}/comments/{known}"
        _github("POST" if known is None else "PATCH", path, {"body": f"{MARK}\n{found.text}"})
    except (urllib.error.URLError, OSError, ValueError, KeyError) as e:
        _say(f"::warning title=Everloop::the comment could not be written: {_escaped(str(e))}\n")


def _pull_request() -> int | None:
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    number = event.get("pull_request", {}).get("number")
    return number if isinstance(number, int) else None


def _find_comment(path: str) -> int | None:
    """The id of this action's comment among the first 1,000 of the pull request."""
    for page in range(1, COMMENTS_READ // 100 + 1):
        comments = _github("GET", f"{path}?per_page=100&page={page}")
        for comment in comments:
            if str(comment["body"]).startswith(MARK) and comment["user"]["type"] == "Bot":
                return int(comment["id"])
        if len(comments) < 100:
            return None
    return None


def _github(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    url = os.environ.get("GITHUB_API_URL", "https://api.github.com") + path
    headers = {
        "authorization": f"Bearer {_input('GITHUB_TOKEN')}",
        "accept": "application/vnd.github+json",
        "content-type": "application/json",
        "user-agent": "everloop-action",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=GITHUB_TIMEOUT_S) as answer:
        return json.loads(answer.read())


def _input(name: str) -> str:
    return os.environ.get(f"EVERLOOP_ACTION_{name}", "").strip()


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _escaped(text: str) -> str:
    """A text in a command of the runner, which ends with the line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
