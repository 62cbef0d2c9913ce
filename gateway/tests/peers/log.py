"""What a client keeps of a chat: its cursor, and the text of the answer."""

import json
import os
import sys
from urllib.parse import urlsplit

URL = os.environ["SWITCHBOARD_URL"]
TOKEN = os.environ["SWITCHBOARD_TOKEN"]
SOCKET = os.environ.get("SWITCHBOARD_SOCKET", "")
# The address of the URL's host, where that is a name that does not exist.
RESOLVE = os.environ.get("SWITCHBOARD_RESOLVE", "")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOST = urlsplit(URL).netloc
# More than a second of deltas, so that there is something left after the cut.
PROMPT = "long 8"
# How many of them are enough to cut the connection.
ENOUGH = 40


class Log:
    def __init__(self):
        self.chat = None
        self.cursor = None
        self.deltas = 0
        self.text = ""
        self.ended = False

    def take(self, event):
        """Takes an event. One that comes again is dropped; a hole is a failure."""
        assert event["event"] != "error", event
        if event["event"] == "attached":
            assert event["recovered"], "a cursor that was just given is good"
            self.chat = event["chat_id"]
            self.cursor = self.cursor or {"epoch": event["epoch"], "seq": 0}
        if "seq" not in event or event["event"] == "replay_end":
            return
        assert event["epoch"] == self.cursor["epoch"], event
        if event["seq"] <= self.cursor["seq"]:
            return
        assert event.get("first_seq", event["seq"]) == self.cursor["seq"] + 1, f"a hole before {event}"
        self.cursor = {"epoch": event["epoch"], "seq": event["seq"]}
        if event["event"] == "delta":
            self.deltas += 1
            self.text += event["text"]
        if event["event"] == "turn_end":
            assert event["outcome"] == "completed", event
            self.ended = True

    def message(self):
        return json.dumps({"type": "message", "chat_id": self.chat, "content": PROMPT, "turn_id": "turn-1"})

    def attach(self):
        return json.dumps({"type": "attach", "chat_id": self.chat, "after": self.cursor})

    def finish(self):
        assert self.ended and self.deltas > ENOUGH
        sys.stdout.write(self.text)
