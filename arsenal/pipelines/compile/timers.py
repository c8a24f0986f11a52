"""A flow on one machine at its times: a line of crontab, or a service and a timer of systemd."""

import shlex

from arsenal.pipelines.compile.target import CompiledFlow
from arsenal.pipelines.cron import calendars, plain_cron


def cron(target: CompiledFlow) -> str:
    """The text of a crontab: what is printed is added to cron.log beside the flow's page."""
    log = f"{target.root}/{target.flow.name}/cron.log"
    words = f"cd {shlex.quote(target.folder)} && mkdir -p {shlex.quote(log.rpartition('/')[0])} && {shlex.join(target.whole())}"
    line = f"{words} >> {shlex.quote(log)} 2>&1".replace("%", r"\%")
    about = f"# The flow {target.flow.name}, written by `arsenal flow compile`; crontab FILE takes it in place of what is there."
    return f"{about}\n{plain_cron(target.need_schedule('cron'))} {line}\n"


SERVICE = """[Unit]
Description={note}

[Service]
Type=oneshot
WorkingDirectory={folder}
ExecStart={words}
"""
TIMER = """[Unit]
Description={note}, at its times

[Timer]
{times}
Persistent=true

[Install]
WantedBy=timers.target
"""


def systemd(target: CompiledFlow) -> dict[str, str]:
    """The texts of the units by file name; one that is still running is not started again."""
    flow = target.flow
    note = (flow.note or f"arsenal flow {flow.name}").replace("\n", " ").replace("%", "%%").rstrip(".")
    times = "\n".join(f"OnCalendar={one}" for one in calendars(target.need_schedule("systemd")))
    words = " ".join(map(quote, target.whole()))
    return {
        f"{flow.name}.service": SERVICE.format(note=note, folder=target.folder.replace("%", "%%"), words=words),
        f"{flow.name}.timer": TIMER.format(note=note, times=times),
    }


def quote(word: str) -> str:
    """A word as systemd.service(5) reads it back."""
    text = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if not text or set(text) & set(" \t\n;'\"\\") else text
