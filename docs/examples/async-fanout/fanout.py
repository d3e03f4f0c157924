"""One event asks many, at the same time. What it asks is a sleep here, to need no network."""
import asyncio
import time


async def ask(shard):
    """What a database or another function would answer after 100 ms."""
    await asyncio.sleep(0.1)
    return shard * shard


async def handler(context, event):
    start = time.monotonic()
    answers = await asyncio.gather(*(ask(shard) for shard in range(50)))
    took = round((time.monotonic() - start) * 1000)
    context.logger.info_with("All have answered", shards=len(answers), ms=took)
    return {"shards": len(answers), "sum": sum(answers)}
