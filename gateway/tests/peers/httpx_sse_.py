"""Python `httpx-sse`, which leaves coming back with `Last-Event-ID` to its user."""

import json
from urllib.parse import urlsplit

import httpx
from httpx_sse import connect_sse
from log import BEARER, ENOUGH, HOST, RESOLVE, URL, Log

ADDRESS = URL.replace(urlsplit(URL).hostname, RESOLVE, 1) if RESOLVE else URL
HEADERS = {**BEARER, "Host": HOST}


def main():
    log = Log()
    with httpx.Client(timeout=60, headers=HEADERS, trust_env=False) as client:

        def post(stream, frame):
            headers = {"Content-Type": "application/json", "Switchboard-Stream": stream}
            assert client.post(f"{ADDRESS}/messages", headers=headers, content=frame).status_code == 202

        last = ""
        with connect_sse(client, "GET", f"{ADDRESS}/sse") as source:
            for sent in source.iter_sse():
                event = json.loads(sent.data)
                log.take(event)
                last = sent.id or last
                if event["event"] == "ready":
                    stream = event["stream"]
                    post(stream, '{"type":"new_chat"}')
                if event["event"] == "replay_end":
                    post(stream, log.message())
                if log.deltas >= ENOUGH:
                    break
        with connect_sse(client, "GET", f"{ADDRESS}/sse", headers={"Last-Event-ID": last}) as source:
            for sent in source.iter_sse():
                log.take(json.loads(sent.data))
                if log.ended:
                    break
    log.finish()


main()
