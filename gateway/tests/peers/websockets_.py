"""Python `websockets`."""

import asyncio
import json
from urllib.parse import urlsplit

from log import BEARER, ENOUGH, RESOLVE, URL, Log
from websockets.asyncio.client import connect


def opened():
    elsewhere = {"host": RESOLVE, "port": urlsplit(URL).port} if RESOLVE else {}
    address = URL.replace("http", "ws", 1) + "/ws"
    return connect(address, additional_headers=BEARER, subprotocols=["switchboard.v1"], proxy=None, **elsewhere)


async def main():
    log = Log()
    first = await opened()
    await first.send('{"type":"new_chat"}')
    async for data in first:
        event = json.loads(data)
        log.take(event)
        if event["event"] == "replay_end":
            await first.send(log.message())
        if log.deltas >= ENOUGH:
            break
    first.transport.abort()

    async with opened() as second:
        await second.send(log.attach())
        async for data in second:
            log.take(json.loads(data))
            if log.ended:
                break
    log.finish()


asyncio.run(asyncio.wait_for(main(), 60))
