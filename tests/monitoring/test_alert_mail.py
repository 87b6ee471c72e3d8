"""Alerts by e-mail, through a real mail server: TLS, logins, and what happens when either is refused."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.builders.running import until
from tests.monitoring.smtp_receiver import HOST, Certificate, SmtpReceiver, make_certificate, smtp_receiver
from tests.monitoring.test_alert_delivery import alert, telling
from tests.monitoring.test_alert_messages import whole

from everloop_monitoring.adapters.receivers.config import EmailSpec, ReceiverSpec
from everloop_monitoring.adapters.receivers.http import ReceiverAway
from everloop_monitoring.adapters.receivers.mail import EmailReceiver

USER, PASSWORD = "everloop", "correct horse battery"
LOGINS = {USER: PASSWORD}


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """A certificate that this machine trusts."""
    made = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    return made


def spec(server: SmtpReceiver, folder: Path | None = None, **changes: Any) -> dict[str, Any]:
    """An e-mail receiver of the operator's file; it logs in where the password is in `folder`."""
    login: Mapping[str, Any] = {"user": USER, "password": {"file": folder / "password"}} if folder else {}
    to = {"from": "ml@shop.example", "to": ["ops@shop.example", "ml@shop.example"]}
    return {"host": HOST, "port": server.port, **to, **login, **changes}


async def send(**fields: Any) -> None:
    await EmailReceiver(EmailSpec.model_validate(fields)).send(whole())


async def test_a_mail_says_everything_as_text_and_as_html() -> None:
    async with smtp_receiver() as server:
        fields = spec(server, tls="none")
        await EmailReceiver(EmailSpec.model_validate(fields)).send(whole(message="line\r\nBcc: all@shop.example"))

    [mail] = server.mails
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert (mail["subject"], mail["bcc"]) == ("[everloop] shop: drift.1 warning", None)
    assert server.addresses == [["ops@shop.example", "ml@shop.example"]]
    assert text is not None
    assert text.get_content().splitlines() == [
        "drift.1 (warning)",
        "line",
        "Bcc: all@shop.example",
        "since: 2026-05-01 12:00:00 UTC",
        "evidence: error 10 % before, 40 % since",
        "likely cause: prices have changed",
        "what Everloop does: run r1 trains line logistic-1",
        "what you can do: everloop alerts shop",
        "",
        "https://ml.example/console/#shop",
    ]
    assert html is not None
    shown = html.get_content()
    for title, said in (
        ("since", "2026-05-01 12:00:00 UTC"),
        ("evidence", "error 10 % before, 40 % since"),
        ("likely cause", "prices have changed"),
        ("what Everloop does", "run r1 trains line logistic-1"),
        ("what you can do", "everloop alerts shop"),
    ):
        assert f"<dt>{title}</dt><dd>{said}</dd>" in shown
    assert '<a href="https://ml.example/console/#shop">' in shown


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_mail_is_sent_by_tls_after_a_login(tmp_path: Path, certificate: Certificate, tls: str) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    async with smtp_receiver(certificate, implicit=tls == "implicit", logins=LOGINS) as server:
        await send(**spec(server, tmp_path, tls=tls))

    assert (len(server.mails), server.encrypted, server.tried) == (1, [True], [(USER, True)])


async def test_nothing_is_sent_to_a_server_that_offers_no_starttls(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    async with smtp_receiver() as server:
        with pytest.raises(ReceiverAway, match="no delivery: STARTTLS extension not supported"):
            await send(**spec(server, tmp_path))

    assert (server.mails, server.tried) == ([], [])


async def test_neither_mail_nor_password_is_sent_to_a_server_whose_certificate_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    async with smtp_receiver(make_certificate(tmp_path), logins=LOGINS) as server:
        with pytest.raises(ReceiverAway, match="its certificate is not trusted: self-signed certificate"):
            await send(**spec(server, tmp_path))

    assert (server.mails, server.tried) == ([], [])


async def test_what_a_wrong_password_holds_up_is_said_kept_and_sent_once_it_is_right(
    tmp_path: Path, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, file = "wrong horse battery", tmp_path / "password"
    file.write_text(wrong)
    async with smtp_receiver(certificate, logins=LOGINS) as server, telling(tmp_path, "mail") as told:
        await told.queue(alert(1), alert(2))
        async with told.delivering(ReceiverSpec.model_validate({"name": "mail", "email": spec(server, tmp_path)})) as d:
            await until(lambda: len(server.tried) > 3)
            said = await until(d.remarks)
            file.write_text(PASSWORD)
            await until(lambda: server.mails)
            await until(lambda: not d.remarks())
            await told.queue(alert(3, "other"))
            await until(lambda: len(server.mails) > 1)

    assert said == ["receiver mail is not told of alerts: refuses the login: 535"]
    assert [mail["subject"] for mail in server.mails] == [
        "[everloop] shop: 2 alerts",
        "[everloop] other: drift.3 warning",
    ]
    logged = " ".join(f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.records)
    assert "refuses the login" in logged
    plain = base64.b64encode(f"\0{USER}\0{wrong}".encode()).decode()
    for secret in (wrong, PASSWORD, plain, base64.b64encode(wrong.encode()).decode()):
        assert secret not in logged


async def test_a_mail_that_was_taken_is_not_sent_again_where_the_server_takes_no_leave(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with smtp_receiver() as server:
        server.leave = "451 not now"
        server.refused.add("ml@shop.example")
        await send(**spec(server, tls="none"))

    assert server.addresses == [["ops@shop.example"]]
    assert [record.getMessage() for record in caplog.records if record.name.endswith("mail")] == [
        "a mail server refuses some of the addresses"
    ]


async def test_a_mail_server_that_is_away_or_takes_no_address_is_a_receiver_that_is_away() -> None:
    with pytest.raises(ReceiverAway, match="no delivery: ConnectionRefusedError"):
        await send(**spec(SmtpReceiver(port=1), tls="none"))
    async with smtp_receiver() as server:
        server.refused |= {"ops@shop.example", "ml@shop.example"}
        with pytest.raises(ReceiverAway, match="no delivery: SMTPRecipientsRefused"):
            await send(**spec(server, tls="none"))
