"""Tokens as they come: each "yield" goes to the client at once, as a server-sent event."""
import asyncio


async def tokens(text):
    """What a language model would do, a word at a time."""
    for number, word in enumerate(text.split()):
        yield f"id: {number}\ndata: {word}\n\n"
        await asyncio.sleep(0.2)
    yield "event: end\ndata:\n\n"


async def handler(context, event):
    text = event.body.decode() or "nothing was asked"
    return context.Response(body=tokens(text), content_type="text/event-stream",
                            headers={"Cache-Control": "no-cache"})
