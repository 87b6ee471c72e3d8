"""The demo opens the console where a person can see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop.demo.browser import has_browser, open_page

DESKTOP = {"DISPLAY": ":0"}


@pytest.mark.parametrize(
    ("variables", "platform"), [(DESKTOP, "linux"), ({"WAYLAND_DISPLAY": "wayland-0"}, "linux"), ({}, "darwin")]
)
def test_a_person_at_a_terminal_with_a_display_has_a_browser(variables: dict[str, str], platform: str) -> None:
    assert has_browser(True, variables, platform)


@pytest.mark.parametrize(
    ("is_terminal", "variables", "platform"),
    [
        (False, DESKTOP, "linux"),
        (True, {}, "linux"),
        (True, {**DESKTOP, "CI": "true"}, "linux"),
        (True, {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, "darwin"),
    ],
)
def test_pipes_ci_and_machines_without_a_display_have_none(
    is_terminal: bool, variables: dict[str, str], platform: str
) -> None:
    assert not has_browser(is_terminal, variables, platform)


def test_the_page_is_opened_by_the_browser_that_the_user_has_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")

    open_page("http://127.0.0.1:8006/#electricity")

    assert opened.read_text() == "http://127.0.0.1:8006/#electricity\n"


def test_without_any_browser_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/nowhere/browser %s")
    monkeypatch.setenv("PATH", "/nowhere")

    open_page("http://127.0.0.1:8006/")
