"""What receivers are sent, and the operator's file that names them."""

from __future__ import annotations

import json
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from tests.monitoring.http_receiver import http_receiver
from tests.monitoring.test_alert_delivery import TIME, alert

from everloop_monitoring.adapters.receivers import alertmanager, slack, webhook
from everloop_monitoring.adapters.receivers.config import EmailSpec, ReceiverSpec, SlackSpec, read_receivers
from everloop_monitoring.adapters.receivers.http import ReceiverAway
from everloop_monitoring.adapters.receivers.message import Message, console_link
from everloop_monitoring.adapters.receivers.slack import SlackReceiver
from everloop_shared.errors import Misconfigured

ONE = "{name: a, alertmanager: {url: 'http://a'}}"
HOSTILE = "<!channel> & <https://evil.example|click>"


def whole(**data: Any) -> Message:
    """A message of one alert that says everything."""
    said = {
        "evidence": ("error 10 % before, 40 % since",),
        "cause": "prices have changed",
        "doing": "run r1 trains line logistic-1",
        "runbook": "everloop alerts LOOP",
    }
    return Message("shop", [alert(1, **said | data)], console_link("https://ml.example/console/", "shop"))


def test_slack_is_told_everything_in_blocks() -> None:
    payload = slack.render(whole())

    [header, section, context] = payload["blocks"]
    assert header["text"]["text"] == "shop: drift.1 warning"
    for said in ("alert 1", "2026-05-01 12:00:00 UTC", "error 10 %", "prices", "run r1", "everloop alerts shop"):
        assert said in section["text"]["text"]
    assert context["elements"][0]["text"] == "<https://ml.example/console/#shop|open the console>"


def test_a_webhook_is_told_everything_as_json() -> None:
    message = whole()

    assert json.loads(json.dumps(webhook.render(message))) == {
        "type": "everloop.alerts",
        "timestamp": TIME.isoformat(),
        "data": {
            "loop": "shop",
            "link": "https://ml.example/console/#shop",
            "alerts": [
                {
                    "id": "a1",
                    "time": TIME.isoformat(),
                    "kind": "drift",
                    "alert": "drift.1",
                    "state": "firing",
                    "severity": "warning",
                    "message": "alert 1",
                    "since": "2026-05-01T12:00:00Z",
                    "evidence": ["error 10 % before, 40 % since"],
                    "cause": "prices have changed",
                    "doing": "run r1 trains line logistic-1",
                    "runbook": "everloop alerts LOOP",
                }
            ],
        },
    }


def test_alertmanager_is_told_everything_in_annotations() -> None:
    _, warning, _ = alertmanager.render(whole(), timedelta(hours=4))

    assert (warning["startsAt"], warning["generatorURL"]) == (TIME.isoformat(), "https://ml.example/console/#shop")
    assert warning["annotations"] == {
        "summary": "shop: alert 1",
        "evidence": "error 10 % before, 40 % since",
        "cause": "prices have changed",
        "doing": "run r1 trains line logistic-1",
        "runbook": "everloop alerts shop",
    }


def test_text_of_strangers_mentions_nobody_in_slack_and_is_no_html_in_mails() -> None:
    message = whole(message=HOSTILE, evidence=(HOSTILE,), cause=HOSTILE)
    spec = EmailSpec.model_validate({"host": "mail", "from": "a@b.example", "to": ["c@d.example"], "tls": "none"})

    section = slack.render(message)["blocks"][1]["text"]["text"]
    html = mail_of(message, spec).get_body(("html",))

    assert "<" not in section
    assert "&lt;!channel&gt; &amp; " in section
    assert html is not None
    assert "<!channel>" not in html.get_content()
    assert "&lt;!channel&gt; &amp; " in html.get_content()


def test_slack_gets_no_longer_text_than_it_takes() -> None:
    section = slack.render(whole(cause="&" * 3000))["blocks"][1]["text"]["text"]

    assert len(section) <= slack.MAX_TEXT
    assert section.endswith("&amp;…")


def test_alertmanager_gets_the_end_of_an_alert_under_the_labels_of_its_other_severities() -> None:
    goes_on = alertmanager.render(whole(), timedelta(hours=4))
    over = alertmanager.render(whole(state="resolved"), timedelta(hours=4))

    assert [(one["labels"]["severity"], one["endsAt"]) for one in goes_on] == [
        ("info", TIME.isoformat()),
        ("warning", (TIME + timedelta(hours=8)).isoformat()),
        ("critical", TIME.isoformat()),
    ]
    assert {one["endsAt"] for one in over} == {TIME.isoformat()}
    assert goes_on[0]["labels"] | {"severity": ""} == {
        "alertname": "EverloopDrift", "alert": "drift.1", "kind": "drift", "loop": "shop", "severity": "",
    }  # fmt: skip


async def test_slack_is_posted_to_and_the_address_is_in_no_error(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        (tmp_path / "url").write_text(f"{receiver.url}/services/T0/B0/token\n")
        sender = SlackReceiver(SlackSpec.model_validate({"url": {"file": tmp_path / "url"}}))
        receiver.answers, receiver.headers = [429], {"retry-after": "30"}

        with pytest.raises(ReceiverAway) as away:
            await sender.send(whole())
        await sender.send(whole())
        await sender.close()

    assert (str(away.value), away.value.retry_after_s) == ("answers 429", 30.0)
    assert receiver.received[1].path == "/services/T0/B0/token"
    assert receiver.received[1].json["text"] == "shop: drift.1 warning"


def test_the_operators_file_names_receivers_and_where_their_secrets_are(tmp_path: Path) -> None:
    (tmp_path / "slack").write_text("https://hooks.slack.com/services/T/B/x")
    file = tmp_path / "receivers.yml"
    file.write_text(
        f"""
        receivers:
          - {{name: team, slack: {{url: {{file: {tmp_path}/slack}}}}, loops: [shop, "churn-*"], severity: [critical]}}
          - {{name: am, alertmanager: {{url: "http://alertmanager:9093"}}}}
          - name: mail
            email: {{host: smtp.example, from: ml@shop.example, to: [ops@shop.example]}}
        """
    )

    team, am, mail = read_receivers(file)

    assert team.slack is not None
    assert team.slack.url.read() == "https://hooks.slack.com/services/T/B/x"
    assert [team.takes(alert(1, loop, severity="critical")) for loop in ("shop", "churn-1", "other")] == [
        True, True, False,
    ]  # fmt: skip
    assert (team.takes(alert(1)), am.takes(alert(1))) == (False, True)
    assert mail.email is not None
    assert (mail.email.port, mail.email.tls) == (587, "starttls")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("receivers: [{name: a}]", "receivers.0: Value error, needs exactly one of slack, webhook"),
        ("receivers: [{name: a, slack: {url: 'https://x'}}]", "receivers.0.slack.url"),
        ("receivers: [{name: a, slack: {url: {env: EVERLOOP_TEST_NOT_SET}}}]", "EVERLOOP_TEST_NOT_SET is empty"),
        ("receivers: [{name: a, slack: {url: {file: /not/there}}}]", "/not/there cannot be read"),
        ("receivers: [{name: a, webhook: {url: 'file:///etc/passwd'}}]", "receivers.0.webhook.url"),
        ("receivers: [{name: a, webhook: {url: 'http://user:word@x'}}]", "receivers.0.webhook.url"),
        (
            "receivers: [{name: a, email: {host: h, from: a@b, to: [c@d], tls: none, user: u, password: {env: P}}}]",
            "a password is not sent without TLS",
        ),
        (f"receivers: [{ONE}, {ONE}]", "twice"),
        ("receivers: {", "is no YAML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_at_the_start_with_the_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "receivers.yml"
    file.write_text(text)

    with pytest.raises(Misconfigured) as error:
        read_receivers(file)

    assert said in error.value.detail
    assert "user:word" not in error.value.detail


def test_the_example_in_the_documentation_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "shared/docs/alerts.md").read_text()
    text = page.split("```yaml\nreceivers:")[1].split("```")[0]
    (tmp_path / "secret").write_text("whsec_" + "a" * 32)
    for name in ("/run/secrets/pager", "/run/secrets/smtp"):
        text = text.replace(name, str(tmp_path / "secret"))
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/x")
    (tmp_path / "receivers.yml").write_text("receivers:" + text)

    found: tuple[ReceiverSpec, ...] = read_receivers(tmp_path / "receivers.yml")

    assert len(found) == 4


def mail_of(message: Message, spec: EmailSpec) -> EmailMessage:
    from everloop_monitoring.adapters.receivers.mail import render

    return render(message, spec)
