"""Nuclio's classic, as it is."""


def handler(context, event):
    body = event.body.decode("utf-8")
    context.logger.info("reversing " + body)
    return body[::-1]
