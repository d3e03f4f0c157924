"""`stator cron next` against croniter, tick by tick over years, and its offsets against zoneinfo.

Where croniter's rules differ from ours, and so is not asked:
- Changes of the clock. Ours: a time of day that is skipped runs at the first time that exists, one
  that comes twice runs once, a schedule for every hour runs on. croniter works on naive local times
  here, and days with a change are left out on both sides. What we do on them is tested against libc
  in tests/unit/test_cron_schedule.c.
- Six fields: croniter has the seconds last.
- A range of one day of the week, 2-2: croniter takes it for the whole week.
- A day of the month such as */2 beside a day of the week: for us, as for robfig/cron, */2 restricts
  and the two are alternatives; croniter decides by the first character.
"""

import random
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from stator_proc import run_cli

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def ticks(expression: str, zone: str, count: int, after: datetime = BEGIN) -> list[datetime]:
    """Ours, with their offsets."""
    done = run_cli("cron", "next", expression, "-n", str(count), "--tz", zone, "--after",
                   after.strftime("%Y-%m-%dT%H:%M:%SZ"), seconds=60)
    assert done.returncode == 0, done.stderr
    found = [datetime.fromisoformat(line) for line in done.stdout.splitlines()]
    assert len(found) == count
    return found


def oracle(expression: str, begin: datetime, until: datetime) -> list[datetime]:
    """croniter's, naive, in (begin, until]."""
    found, it = [], croniter(expression, begin)
    while (t := it.get_next(datetime)) <= until:
        found.append(t)
    return found


def field(rand: random.Random, low: int, high: int, steps: bool = True) -> str:
    """`*`, a value, a range or a list, with or without a step."""
    a = rand.randint(low, high - 1)
    b = rand.randint(a + 1, high)
    return rand.choice(["*", "*", str(a), f"{a}-{b}", f"{low},{a}-{b}"]
                       + ([f"*/{rand.randint(2, high // 2)}", f"{a}-{b}/2"] if steps else []))


def expressions(seed: int, count: int) -> list[str]:
    """Random ones that have a next time within a year."""
    rand, found = random.Random(seed), []
    while len(found) < count:
        days, weekdays = field(rand, 1, 28, False), field(rand, 0, 6, False)
        if rand.random() < 0.5:
            days = "*"
        found.append(" ".join([field(rand, 0, 59), field(rand, 0, 23), days,
                               field(rand, 1, 12), weekdays]))
    return found


KNOWN = ["* * * * *", "*/7 * * * *", "0 0 29 2 *", "59 23 31 12 *", "0 0 31 * *", "0 12 * * MON-FRI",
         "15,45 9-17 * JAN,JUN-AUG *", "0 0 13 * 5", "30 4 1,15 * 7", "0 0 1 1 *", "5 0 * 8 *",
         "23 0-20/2 * * *", "5 4 * * sun"]


@pytest.mark.parametrize("expression", KNOWN + expressions(1, 40))
def test_utc(expression):
    """The same ticks, none more and none less: up to 3000 of them, or 30 years."""
    count = len(oracle(expression, BEGIN.replace(tzinfo=None),
                       datetime(2056, 1, 1))) if expression in ("0 0 29 2 *", "0 0 1 1 *") else 0
    found = ticks(expression, "UTC", count or 3000)
    naive = [t.replace(tzinfo=None) for t in found]
    assert all(t.utcoffset() == timedelta(0) for t in found)
    it = croniter(expression, BEGIN.replace(tzinfo=None))
    assert naive == [it.get_next(datetime) for _ in naive]


def has_change(day: datetime, zone: ZoneInfo) -> bool:
    """Whether the clock is changed on that local day."""
    begin = day.replace(hour=0, minute=0, second=0, tzinfo=zone)
    return begin.utcoffset() != (begin + timedelta(days=1)).utcoffset()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
                                  "Asia/Kathmandu"])
@pytest.mark.parametrize("expression", ["*/20 * * * *", "30 2 * * *", "0 0 * * *", "45 1,2 * * SUN",
                                        *expressions(2, 6)])
def test_zones(expression, zone):
    """Local times over a year and more, days with a change of the clock left out."""
    info, found = ZoneInfo(zone), ticks(expression, zone, 3000)
    for t in found:
        assert t.astimezone(info).utcoffset() == t.utcoffset()
    naive = [t.replace(tzinfo=None) for t in found]
    begin = BEGIN.astimezone(info).replace(tzinfo=None)
    days = {t.date(): has_change(t, info) for t in naive}
    assert [t for t in naive if not days[t.date()]] == [
        t for t in oracle(expression, begin, naive[-1])
        if not has_change(t, info)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
                                  "Europe/Dublin", "Africa/Casablanca", "Pacific/Apia",
                                  "America/St_Johns", "Antarctica/Troll"])
def test_offsets(zone):
    """Every six hours from 1970 on, far behind the end of the zone's table."""
    info = ZoneInfo(zone)
    found = ticks("0 */6 * * *", zone, 120000, datetime(1970, 1, 2, tzinfo=timezone.utc))
    assert found[-1].year > 2050
    assert all(t.astimezone(info).utcoffset() == t.utcoffset() for t in found)


@pytest.mark.parametrize("args, says", [
    (["next"], "an expression is missing; type: stator cron next EXPR"),
    ([], "an expression is missing"),
    (["then", "* * * * *"], 'there is no "then"'),
    (["next", "*", "*", "*"], 'found "*" and "*": put it in quotes'),
    (["next", "@daily", "-n", "0"], '-n needs a number from 1 to 1000000, found "0"'),
    (["next", "@daily", "--after", "now"], "--after needs a time such as 2026-03-29T00:59:59Z"),
    (["next", "@daily", "--frob"], "there is no option --frob"),
    (["next", "@daily", "--zt", "UTC"], "there is no option --zt, did you mean --tz"),
    (["next", "@daily", "--tz"], "--tz needs a value"),
])
def test_wrong_usage(args, says):
    """Exit 2 and one line."""
    done = run_cli("cron", *args)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("stator: cron: ") and done.stderr.count("\n") == 1
    assert says in done.stderr


def test_command():
    """Five times by default, a zone of the expression goes first, wrong expressions are exit 1."""
    done = run_cli("cron", "next", "CRON_TZ=Asia/Tokyo 0 9 * * *", "--tz", "UTC")
    assert done.returncode == 0
    assert [line[10:] for line in done.stdout.splitlines()] == ["T09:00:00+09:00"] * 5
    done = run_cli("cron", "next", "@every 1m30s", "-n", "2", "--after", "2026-01-01T00:00:00Z",
                   "--tz", "UTC")
    assert done.stdout == "2026-01-01T00:01:30+00:00\n2026-01-01T00:03:00+00:00\n"
    done = run_cli("cron", "next", "0 0 0 * *")
    assert done.returncode == 1
    assert done.stderr == ('stator: "0 0 0 * *", position 5: day of month 0 is not within 1-31; '
                           'an example is "*/15 9-17 * * MON-FRI"\n')
    assert "--after" in run_cli("cron", "--help").stdout
