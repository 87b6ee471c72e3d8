"""The GitHub Action by `act` against a real installation, the workflows by actionlint, and GitLab's jobs by a shell.

GitHub's address for comments is emulated: a server that keeps what it is sent.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integrations.environments import FOLDER, environment
from tests.integrations.in_memory import in_memory
from tests.journeys.installation import Installation
from tests.wheels import build_wheel

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "everloop"
PAGE = ROOT / "shared" / "docs" / "ci-for-loops.md"
CHURN = "loop: churn\ntask: binary\nschema:\n  visits: {type: number}\n"
HOSTILE = '"; touch taken; echo "`touch taken`$(touch taken) '
WORKFLOW = """
name: loops
on: [pull_request, push]
jobs:
  loops:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2; act copies the workspace in its place
      - uses: ./.github/actions/everloop
        id: found
        with:
          mode: MODE
          files: |
            FILES
          url: ${{ vars.EVERLOOP_URL }}
          token: ${{ secrets.EVERLOOP_TOKEN }}
          comment: "true"
          github-token: of-github
          package: ${{ vars.WHEEL }}
      - if: always()
        env:
          CHANGES: ${{ steps.found.outputs.changes }}
          REFUSED: ${{ steps.found.outputs.refused }}
          DIFF: ${{ steps.found.outputs.diff }}
        run: printf '%s %s\\n%s\\n' "$CHANGES" "$REFUSED" "$DIFF" > "$FOUND"
"""

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(1_200)]


class Comments(BaseHTTPRequestHandler):
    """GitHub's comments of one pull request."""

    kept: list[dict[str, Any]]
    asked: list[tuple[str, str, str]]

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        self.asked.append((self.command, self.path, self.headers.get("authorization", "")))
        if self.command == "POST":
            self.kept.append({"id": len(self.kept) + 1, "user": {"type": "Bot"}, **body})
        elif self.command == "PATCH":
            self.kept[int(self.path.rpartition("/")[2]) - 1]["body"] = body["body"]
        told = json.dumps(self.kept if self.command == "GET" else self.kept[-1]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def comments() -> Iterator[tuple[str, type[Comments]]]:
    """The address of the emulated GitHub, and what it keeps: somebody's comment at first."""
    somebody = {"id": 1, "user": {"type": "User"}, "body": "<!-- everloop: what loop files would do --> mine"}
    handler = type("OneTest", (Comments,), {"kept": [somebody], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built from the clone."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A guarded installation on the memory bus."""
    with in_memory(tmp_path_factory.mktemp("installation"), "--auth") as made:
        yield made


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with the action and one loop file."""
    folder = tmp_path / "repository"
    shutil.copytree(ACTION, folder / ".github" / "actions" / "everloop")
    (folder / "loops").mkdir()
    (folder / "loops" / "churn.yaml").write_text(CHURN)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "loops"]):
        author = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
        subprocess.run(["git", *author, *command], cwd=folder, check=True)
    return folder


def key(installation: Installation, role: str) -> str:
    """The token of a new key."""
    made = installation.everloop("keys", "create", f"ci-{role}", "--role", role, "--json")
    token: str = json.loads(made.stdout)["token"]
    return token


class Runner:
    """Runs the workflow of a workspace by act, as GitHub would on an event."""

    def __init__(self, workspace: Path, wheel: Path, variables: dict[str, str], token: str, api: str) -> None:
        self.folder, self._wheel, self._variables, self._token, self._api = workspace, wheel, variables, token, api
        self._act = Path(environment("actions").python).with_name("act")

    def run(self, event: str, mode: str, files: str = "loops/*.yaml") -> tuple[int, str, list[str]]:
        """The exit status, the log, and what the outputs of the action were."""
        found = self.folder.parent / "found"
        found.unlink(missing_ok=True)
        workflow = self.folder / ".github" / "workflows" / "loops.yml"
        workflow.parent.mkdir(exist_ok=True)
        workflow.write_text(WORKFLOW.replace("MODE", mode).replace("FILES", files))
        happened = self.folder.parent / "event.json"
        happened.write_text(json.dumps({"pull_request": {"number": 7}} if event == "pull_request" else {}))
        home = self.folder.parent / "home"
        command = [
            str(self._act),
            event,
            "-P",
            "ubuntu-latest=-self-hosted",
            "-W",
            str(workflow),
            "-e",
            str(happened),
        ]
        command += ["--var", f"WHEEL={self._wheel}", "-s", f"EVERLOOP_TOKEN={self._token}"]
        command += [part for name, url in self._variables.items() for part in ("--env", f"{name}={url}")]
        command += ["--env", f"GITHUB_API_URL={self._api}", "--env", f"FOUND={found}"]
        env = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_")} | {"XDG_CONFIG_HOME": str(home)}
        env |= {"XDG_CACHE_HOME": str(home / "cache")}
        command += ["--env", f"PIP_CACHE_DIR={FOLDER / 'pip-cache'}"]
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        log = done.stdout + done.stderr
        return done.returncode, log, found.read_text().splitlines() if found.exists() else [log]


def test_a_pull_request_shows_what_a_merge_then_applies(
    workspace: Path, wheel: Path, installation: Installation, comments: tuple[str, type[Comments]]
) -> None:
    api, github = comments
    reader = Runner(workspace, wheel, installation.addresses(), key(installation, "viewer"), api)
    writer = Runner(workspace, wheel, installation.addresses(), key(installation, "engineer"), api)

    shown = reader.run("pull_request", "diff")
    not_applied = installation.everloop("history", "churn")
    forbidden = reader.run("push", "apply")
    merged = writer.run("push", "apply")
    applied = installation.everloop("history", "churn", "--json")
    (workspace / "loops" / "churn.yaml").write_text(CHURN + "metric: log_loss\n")
    again = reader.run("pull_request", "diff")

    assert (shown[0], shown[2][0]) == (0, "true false"), shown[1]
    assert any("churn would be created" in line for line in shown[2])
    assert not_applied.returncode == 1
    assert (forbidden[0], "loops.apply" in forbidden[1]) == (1, True), forbidden[1]
    assert (merged[0], any("churn created, revision 1" in line for line in merged[2])) == (0, True), merged[1]
    [decision] = json.loads(applied.stdout)
    assert (decision["type"], decision["actor"]) == ("registry.loop_applied.v1", "ci-engineer")
    assert (again[0], again[2][0]) == (0, "true false"), again[1]
    theirs, ours = github.kept
    assert theirs["body"].endswith("mine"), "a comment of somebody else is not touched"
    assert "churn would change from revision 1 to 2" in ours["body"], "one comment, written anew"
    assert "| `metric` | `accuracy` | `log_loss` |" in ours["body"]
    assert {asked[2] for asked in github.asked} == {"Bearer of-github"}


def test_what_is_wrong_is_named_before_anything_is_applied_and_nothing_of_a_name_is_run(
    workspace: Path, wheel: Path, installation: Installation, comments: tuple[str, type[Comments]]
) -> None:
    runner = Runner(workspace, wheel, installation.addresses(), key(installation, "engineer"), comments[0])
    (workspace / "loops" / "b.yaml").write_text(CHURN.replace("churn", "never") + "metrik: accuracy\n")
    (workspace / "loops" / f"{HOSTILE}.yaml").write_text(CHURN.replace("churn", "hostile"))

    refused = runner.run("push", "apply", f"loops/*.yaml\n            {HOSTILE}")
    alone = runner.run("push", "diff", HOSTILE.replace("taken", str(workspace.parent / "taken")))

    assert (refused[0], refused[2][0]) == (1, "true true"), refused[1]
    assert any("is not known; did you mean metric?" in line for line in refused[2])
    assert installation.everloop("history", "hostile").returncode == 1, "none is applied where one is refused"
    assert (alone[0], "nothing is named like" in alone[1]) == (1, True), alone[1]
    assert not [*workspace.parent.rglob("taken")]


def test_files_are_validated_without_an_installation(
    workspace: Path, wheel: Path, comments: tuple[str, type[Comments]]
) -> None:
    runner = Runner(workspace, wheel, {}, "", comments[0])

    sound = runner.run("push", "validate")
    (workspace / "loops" / "b.yaml").write_text(CHURN + "metrik: accuracy\n")
    refused = runner.run("pull_request", "validate")

    assert (sound[0], sound[2][0]) == (0, "false false"), sound[1]
    assert any("churn is sound" in line for line in sound[2]), sound[2]
    assert (refused[0], refused[2][0]) == (1, "false true"), refused[1]
    assert any("loops/b.yaml" in line for line in refused[2])
    assert any("is not known; did you mean metric?" in line for line in refused[2])
    assert "did you mean metric?" in comments[1].kept[-1]["body"], "the pull request is told"


def test_all_workflows_and_those_of_the_page_pass_actionlint(tmp_path: Path) -> None:
    found = environment("actions")
    blocks = re.findall(r"```yaml\n(name: .*?)```", PAGE.read_text(), re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"page-{number}.yml").write_text(block)
    files = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), *sorted(tmp_path.glob("*.yml"))]
    folder = Path(found.python).parent

    done = subprocess.run(
        [str(folder / "actionlint"), "-shellcheck", str(folder / "shellcheck"), "-no-color", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert blocks
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_commands_of_gitlabs_jobs_do_what_they_say_in_a_shell(
    workspace: Path, wheel: Path, installation: Installation
) -> None:
    [text] = re.findall(r"```yaml\n(# \.gitlab-ci\.yml.*?)```", PAGE.read_text(), re.DOTALL)
    jobs = yaml.safe_load(text)
    venv = workspace.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    env = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_")}
    env |= {"PATH": f"{venv / 'bin'}:{env['PATH']}", "EVERLOOP_PACKAGE": str(wheel), **installation.addresses()}
    said = {}

    for name, role in (("validate", None), ("diff", "viewer"), ("apply", "engineer")):
        token = {"EVERLOOP_TOKEN": key(installation, role)} if role else {}
        script = "\n".join([*jobs["default"]["before_script"], *jobs[name]["script"]])
        said[name] = subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=workspace,
            env=env | token,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert {name: done.returncode for name, done in said.items()} == dict.fromkeys(said, 0), said
    assert "churn is sound" in said["validate"].stdout
    assert "churn" in (workspace / "diff.md").read_text()
    assert "churn" in said["apply"].stdout
