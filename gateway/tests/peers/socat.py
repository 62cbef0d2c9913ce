"""`socat` on the Unix socket, as a shell script would use it."""

import json
import subprocess

from log import ENOUGH, SOCKET, Log

SOCAT = ["socat", "-", f"UNIX:{SOCKET}"]


def one_frame():
    """printf '{"type":"new_chat"}\\n' | socat - UNIX:PATH"""
    answer = subprocess.run(SOCAT, input='{"type":"new_chat"}\n', capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and not answer.stderr, answer
    events = [json.loads(line)["event"] for line in answer.stdout.splitlines()]
    assert events == ["ready", "attached", "agent_state", "session_updated", "replay_end"], events


def opened():
    return subprocess.Popen(SOCAT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def main():
    one_frame()
    log = Log()
    with opened() as first:
        first.stdin.write('{"type":"new_chat"}\n')
        for line in first.stdout:
            event = json.loads(line)
            log.take(event)
            if event["event"] == "replay_end":
                first.stdin.write(log.message() + "\n")
            if log.deltas >= ENOUGH:
                break
        first.kill()
    with opened() as second:
        second.stdin.write(log.attach() + "\n")
        for line in second.stdout:
            log.take(json.loads(line))
            if log.ended:
                break
        second.kill()
    log.finish()


main()
