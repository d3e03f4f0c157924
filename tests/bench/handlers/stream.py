"""For streams: handlers that take every message, and do nothing with it."""


def handler(context, event):
    pass


def batch(context, events):
    return [context.Response(event_id=event.id) for event in events]
