"""E-mail: one message for each group of alerts, as text and as HTML, by SMTP in a thread."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from contextlib import closing, suppress
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape

from everloop_monitoring.adapters.receivers.config import EmailSpec
from everloop_monitoring.adapters.receivers.http import MessageRefused, ReceiverAway
from everloop_monitoring.adapters.receivers.message import Message, passages
from everloop_shared.errors import cut

log = logging.getLogger(__name__)
TIMEOUT_S = 15.0
MAX_SUBJECT = 150


class EmailReceiver:
    """The addresses of one entry of the operator's file."""

    retold_every_s = None

    def __init__(self, spec: EmailSpec) -> None:
        self._spec = spec

    async def send(self, message: Message) -> None:
        """Send a message; raises ReceiverAway, MessageRefused or Misconfigured."""
        await asyncio.to_thread(self._send, render(message, self._spec))

    async def close(self) -> None:
        """Nothing stays open between messages."""

    def _send(self, mail: EmailMessage) -> None:
        spec = self._spec
        password = spec.password.read() if spec.password else None
        try:
            with closing(self._connect()) as server:
                if spec.tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if spec.user is not None and password is not None:
                    server.login(spec.user, password)
                refused = server.send_message(mail)
                with suppress(smtplib.SMTPException, OSError):  # it has the mail, however it takes leave
                    server.quit()
        except smtplib.SMTPDataError as e:
            if e.smtp_code >= 500:
                raise MessageRefused(f"answers {e.smtp_code}") from e
            raise ReceiverAway(f"answers {e.smtp_code}") from e
        except (smtplib.SMTPException, OSError) as e:
            raise ReceiverAway(_reason_of(e)) from e
        if refused:
            log.warning("a mail server refuses some of the addresses", extra={"refused": len(refused)})

    def _connect(self) -> smtplib.SMTP:
        spec = self._spec
        if spec.tls == "implicit":
            return smtplib.SMTP_SSL(spec.host, spec.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return smtplib.SMTP(spec.host, spec.port, timeout=TIMEOUT_S)


def _reason_of(error: Exception) -> str:
    """Why a mail was not taken, without what the server says: it may quote addresses, or what was sent to it."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return f"refuses the login: {error.smtp_code}"
        case smtplib.SMTPNotSupportedError():
            return f"no delivery: {error}"  # constant texts: no STARTTLS, no login
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case smtplib.SMTPResponseException():
            return f"answers {error.smtp_code}"
        case _:
            return f"no delivery: {type(error).__name__}"


def render(message: Message, spec: EmailSpec) -> EmailMessage:
    """The mail; what comes from records is in no header but the subject, in one line, and is escaped in the HTML."""
    mail = EmailMessage()
    mail["Subject"] = cut(" ".join(f"[everloop] {message.title}".split()), MAX_SUBJECT)
    mail["From"], mail["To"] = spec.from_, ", ".join(spec.to)
    mail["Date"] = format_datetime(message.alerts[-1].time)
    mail["Message-ID"] = f"<{message.id}@everloop>"
    mail["Auto-Submitted"] = "auto-generated"
    text, html = list[str](), list[str]()
    for alert in message.alerts:
        d = alert.data
        heading = f"{d.alert} ({d.severity}{', over' if d.state == 'resolved' else ''})"
        text += [heading, d.message, *(f"{title}: {said}" for title, said in passages(alert)), ""]
        rows = "".join(f"<dt>{escape(title)}</dt><dd>{escape(said)}</dd>" for title, said in passages(alert))
        html.append(f"<h3>{escape(heading)}</h3><p>{escape(d.message)}</p><dl>{rows}</dl>")
    if message.link:
        text.append(message.link)
        html.append(f'<p><a href="{escape(message.link)}">open the console</a></p>')
    mail.set_content("\n".join(text))
    mail.add_alternative(f"<!doctype html><html><body>{''.join(html)}</body></html>", subtype="html")
    return mail
