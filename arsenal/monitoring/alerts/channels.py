"""How a page leaves: by mail (SMTP, RFC 5321, with TLS), to a webhook, or by what apprise speaks; each attempt ends in time."""

import contextlib
import fcntl
import http.client
import json
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arsenal.monitoring.alerts.machine import Notice
from arsenal.monitoring.alerts.policy import FlowStart
from arsenal.refusal import Refusal

PATIENCE = 10.0
"""Seconds that one answer may take."""
DEADLINE = 30.0
"""Seconds after which an attempt is over, also with a server that says a letter now and then."""


class DeliveryError(Refusal):
    """A page did not leave, and why."""


@contextlib.contextmanager
def end_in_time(stop: Callable[[], Any], seconds: float = DEADLINE) -> Iterator[None]:
    """Call `stop` after so many seconds, unless what is within is over."""
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def close_socket(held: socket.socket | None) -> None:
    """End what waits for a socket in another thread."""
    if held is not None:
        with contextlib.suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)


def deliver(channel: Mapping[str, Any], notice: Notice, name: str, deadline: float = DEADLINE) -> str:
    """Send a page by a channel, and what there is to say of it; `DeliveryError` where it was not taken."""
    try:
        return SENDERS[channel["kind"]](channel, notice, name, deadline)
    except (OSError, smtplib.SMTPException, http.client.HTTPException, ValueError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DeliveryError(f"{name}: {why}") from error


def title(notice: Notice) -> str:
    """A page in one line."""
    first, more = notice.alerts[0], len(notice.keys) - 1
    what = f"{first['rule']}: {first['model']} {first['name']}".strip()
    return f"[{notice.kind}{f' step {notice.step + 1}' if notice.step else ''}] {what}" + (f" and {more} more" if more else "")


def body(notice: Notice) -> str:
    """A page in full."""
    lines = []
    for one in notice.alerts:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one["since"]))
        slice_ = f", slice {one['slice']}" if one["slice"] else ""
        later = f"; findings of version {one['later']} come now" if one.get("later") else ""
        flow = f"\n  {one['flow']}" if one.get("flow") else ""
        lines.append(f"{one['rule']}: {one['model']} {one['version']}, {one['kind']} {one['name']}{slice_}: {one['why']} "
                     f"(since {since} UTC{later})\n  {one['key']}{flow}")  # fmt: skip
    if len(notice.keys) > len(notice.alerts):
        lines.append(f"and {len(notice.keys) - len(notice.alerts)} more: arsenal alerts list")
    if notice.kind == "firing":
        # A word of the command line with = is an argument; ? stands for any letter.
        lines.append(f"\nTo take it: arsenal alerts ack '{notice.keys[0].replace('=', '?')}' by=NAME")
    return "\n".join(lines) + "\n"


def send_email(channel: Mapping[str, Any], notice: Notice, name: str, deadline: float = DEADLINE) -> str:
    """By mail; the same page has the same Message-ID."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = title(notice), channel["sender"], ", ".join(channel["to"])
    message["Date"], message["Message-ID"] = formatdate(notice.time), f"<{notice.id}.{name}@arsenal>"
    message["X-Arsenal-Group"] = notice.group
    message.set_content(body(notice))
    trust = ssl.create_default_context(cafile=channel.get("certificates"))
    # The socket is there before the greeting, for which a server that hangs lets wait.
    server: smtplib.SMTP = smtplib.SMTP_SSL(context=trust, timeout=PATIENCE) if channel["security"] == "tls" else smtplib.SMTP(
        timeout=PATIENCE
    )  # fmt: skip
    server._host = channel["host"]  # type: ignore[attr-defined] # what `starttls` checks the certificate by
    with end_in_time(lambda: close_socket(server.sock), deadline):
        try:
            code, said = server.connect(channel["host"], channel["port"])
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            if channel["security"] == "starttls":
                server.starttls(context=trust)
            if "user" in channel:
                server.login(channel["user"], channel["password"])
            refused = server.send_message(message)
            return f"{name}: the server refused {', '.join(refused)}; the others have the mail." if refused else ""
        except smtplib.SMTPServerDisconnected as error:
            raise DeliveryError(f"{name}: {channel['host']}:{channel['port']} did not answer in time, or hung up.") from error
        finally:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                server.close()


def send_webhook(channel: Mapping[str, Any], notice: Notice, name: str, deadline: float = DEADLINE) -> str:
    """As JSON; the same page has the same `Idempotency-Key`."""
    content = {"id": notice.id, "status": notice.kind, "group": notice.group, "step": notice.step, "time": notice.time,
               "title": title(notice), "count": len(notice.keys), "keys": notice.keys, "alerts": notice.alerts}  # fmt: skip
    post_json(channel["url"], content, {**channel["headers"], "Idempotency-Key": f"{notice.id}.{name}"}, deadline)
    return ""


def post_json(url: str, content: Any, headers: Mapping[str, str] = {}, deadline: float = DEADLINE) -> None:
    """Post JSON; `DeliveryError` unless the answer is of 200 to 299."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=PATIENCE)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with end_in_time(lambda: close_socket(connection.sock), deadline):
        try:
            connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            if not 200 <= answer.status < 300:
                said = answer.read(300).decode(errors="replace")
                raise DeliveryError(f"{parts.hostname} answers {answer.status} {answer.reason}: {said}".rstrip(": "))
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(f"{parts.netloc}: {' '.join(str(error).split()) or type(error).__name__}") from error
        finally:
            connection.close()


def send_apprise(channel: Mapping[str, Any], notice: Notice, name: str, deadline: float = DEADLINE) -> str:
    """By one of apprise's services."""
    try:
        import apprise
    except ImportError as error:
        raise DeliveryError(f'{name}: kind apprise needs apprise: pip install "ml-arsenal[alerts]".') from error
    service = apprise.Apprise()
    if not service.add(channel["url"]):
        raise DeliveryError(f"{name}: apprise does not know such a URL.")
    if not service.notify(title=title(notice), body=body(notice)):
        raise DeliveryError(f"{name}: apprise could not deliver.")
    return ""


SENDERS: dict[str, Callable[[Mapping[str, Any], Notice, str, float], str]] = {
    "email": send_email, "webhook": send_webhook, "apprise": send_apprise,
}  # fmt: skip


def start_flow(flow: FlowStart, log: Path) -> subprocess.Popen[bytes]:
    """Start `arsenal flow run` as a process of its own, which outlives this one. Two of a flow exclude each other.

    As long as it runs its log is locked; its exit code stands in a file beside it then.
    """
    words = [sys.executable, "-m", "arsenal", "flow", "run", flow.name, f"root={flow.root}"]
    words += [f"{key}={value}" for key, value in flow.params.items()]
    keep_code = ["sh", "-c", 'trap : TERM INT; "$@"; echo $? > "$0.tmp" && mv "$0.tmp" "$0"', str(code_file(log))]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return subprocess.Popen([*keep_code, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def code_file(log: Path) -> Path:
    """Where the exit code of a flow stands, by its log."""
    return log.with_suffix(".code")


def flow_end(log: Path) -> str | None:
    """Why a flow that was started failed, by its log; empty where all of it is done, None while it runs."""
    if not log.is_file():
        return "it was not started, or its log is gone"
    code = ""
    with log.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return None
    with contextlib.suppress(FileNotFoundError):
        code = code_file(log).read_text().strip()
    if code == "0":
        return ""
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.removeprefix("arsenal: ") for line in said if line.startswith("arsenal: ")]
    failed = next((match for line in told if (match := re.match(r"Step `(.+?)` failed: (.+)", line))), None)
    if failed is not None:
        return f"at `{failed[1]}`: {failed[2]}"
    if not code:
        return "its process was killed, or its machine went down"
    return (told or [line for line in said if line.strip()] or [f"exit code {code}"])[-1]
