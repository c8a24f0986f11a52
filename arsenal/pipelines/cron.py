"""Cron expressions of five fields, checked, and as systemd writes them."""

import re
from typing import NamedTuple

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
NAMED = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *",
}  # fmt: skip


class Cron(NamedTuple):
    """The numbers of each field; None where any will do."""

    minute: list[int] | None
    hour: list[int] | None
    day: list[int] | None
    month: list[int] | None
    weekday: list[int] | None


def plain_cron(text: str) -> str:
    """The expression in its five fields."""
    return NAMED.get(text.strip(), " ".join(text.split()))


def read_cron(text: str) -> Cron:
    """The fields of an expression; ValueError for one that cron would not take.

    >>> read_cron("*/30 6 * * mon-fri")
    Cron(minute=[0, 30], hour=[6], day=None, month=None, weekday=[1, 2, 3, 4, 5])
    """
    parts = plain_cron(str(text)).split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"must be `minute hour day month weekday` or one of {', '.join(NAMED)}; got {text}.")
    return Cron(*(read_field(name, part) for name, part in zip(FIELDS, parts, strict=True)))


def read_field(name: str, text: str) -> list[int] | None:
    """The numbers of a field."""
    if text == "*":
        return None
    low, high = FIELDS[name]
    words = {word: i + 1 for i, word in enumerate(MONTHS)} if name == "month" else {word: i for i, word in enumerate(DAYS)}
    found: set[int] = set()
    for part in text.lower().split(","):
        match = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", part)
        try:
            if match is None or (match[2] and match[1] == "*"):
                raise ValueError
            first = low if match[1] == "*" else number(match[1], words if name in ("month", "weekday") else {})
            last = number(match[2], words) if match[2] else high if match[1] == "*" or match[3] else first
            pace = int(match[3] or 1)
            if not low <= first <= last <= high or pace < 1:
                raise ValueError
        except ValueError as error:
            raise ValueError(f"`{name}` must be {low} to {high}, as in *, 5, 1-5, */15 or 1,3; got {text}.") from error
        found |= set(range(first, last + 1, pace))
    return sorted({one % 7 for one in found} if name == "weekday" else found)


def number(text: str, words: dict[str, int]) -> int:
    """A number, or one of the words for one."""
    return words[text] if text in words else int(text)


def calendars(text: str) -> list[str]:
    """The expression as systemd's OnCalendar has it; two where cron means either of a day and a weekday.

    >>> calendars("0 6 * * mon-fri"), calendars("30 2 1 * *")
    (['Mon,Tue,Wed,Thu,Fri *-*-* 06:00:00'], ['*-*-01 02:30:00'])
    """
    found = read_cron(text)
    time = f"{part(found.hour)}:{part(found.minute)}:00"
    week = ",".join(DAYS[one].capitalize() for one in found.weekday or ())
    if found.day is not None and found.weekday is not None:  # crontab(5): either of them
        return [f"*-{part(found.month)}-{part(found.day)} {time}", f"{week} *-{part(found.month)}-* {time}"]
    return [f"{week + ' ' if week else ''}*-{part(found.month)}-{part(found.day)} {time}"]


def part(numbers: list[int] | None) -> str:
    """A field of a calendar."""
    return "*" if numbers is None else ",".join(f"{one:02d}" for one in numbers)
