"""What the subjects of the benchmarks answer: the greeting, or the request's body."""


def handler(context, event):
    return event.body if event.method == "POST" else "Hello, world!"


async def async_handler(context, event):
    return event.body if event.method == "POST" else "Hello, world!"
