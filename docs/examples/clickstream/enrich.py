"""Adds to each click who it was, which session it belongs to, and its number in there."""

import csv
import json
from collections import OrderedDict
from pathlib import Path

import stator

PAUSE = 30 * 60         # seconds without a click that end a session
MOST_SESSIONS = 100_000


def init_context(context):
    with open(Path(__file__).with_name("users.csv"), encoding="utf-8", newline="") as f:
        context.user_data.users = {row["user"]: row for row in csv.DictReader(f)}
    context.user_data.sessions = OrderedDict()      # user -> session, the latest click at the end


def session_of(sessions, user, at):
    """The session that a click at that time belongs to."""
    session = sessions.pop(user, None)
    if session is None or at - session["last"] > PAUSE:
        session = {"id": f"{user}-{at:.0f}", "last": at, "clicks": 0}
    sessions[user] = session
    if len(sessions) > MOST_SESSIONS:
        sessions.popitem(last=False)
    session["last"] = max(session["last"], at)
    session["clicks"] += 1
    return session


def handler(context, event):
    try:
        click = json.loads(event.raw_body)
        user, page, at = click["user"], click["page"], float(click["at"])
    except (ValueError, KeyError, TypeError) as exc:
        raise stator.Reject(f"no click: {exc!r}")       # to the dead letters; the others go on
    known = context.user_data.users.get(user, {})
    session = session_of(context.user_data.sessions, user, at)
    context.emit("enriched", key=event.key, value={
        "user": user, "page": page, "at": at, "name": known.get("name"),
        "country": known.get("country"), "session": session["id"], "click": session["clicks"]})
