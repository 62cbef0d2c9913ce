"""`curl -N` for the stream and `curl` for each frame, as a shell script would use them."""

import json
import subprocess
from urllib.parse import urlsplit

from log import ENOUGH, HOST, RESOLVE, TOKEN, URL, Log

PORT = urlsplit(URL).port
CURL = ["curl", "--silent", "--show-error", "--max-time", "60", "-H", f"Authorization: Bearer {TOKEN}"]
if RESOLVE:
    CURL += ["--resolve", f"{HOST}:{RESOLVE}"]


def post(stream, frame):
    headers = ["-H", f"Switchboard-Stream: {stream}", "-H", "Content-Type: application/json"]
    subprocess.run([*CURL, "--fail", *headers, "--data-binary", frame, f"{URL}/messages"], check=True, timeout=60)


def events(*more):
    """The events of a stream, each with the id that was last given."""
    last = ""
    with subprocess.Popen([*CURL, "-N", *more], stdout=subprocess.PIPE, text=True) as stream:
        try:
            for line in stream.stdout:
                if line.startswith("id: "):
                    last = line[4:].strip()
                if line.startswith("data: "):
                    yield json.loads(line[6:]), last
        finally:
            stream.kill()


def main():
    log = Log()
    first = events(f"{URL}/sse")
    for event, last in first:
        log.take(event)
        if event["event"] == "ready":
            stream = event["stream"]
            post(stream, '{"type":"new_chat"}')
        if event["event"] == "replay_end":
            post(stream, log.message())
        if log.deltas >= ENOUGH:
            break
    first.close()
    # Where the header cannot be set, `?after=` says the same.
    for event, _ in events(f"{URL}/sse?after={last}"):
        log.take(event)
        if log.ended:
            break
    log.finish()


main()
