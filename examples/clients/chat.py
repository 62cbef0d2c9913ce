"""Sends a message and prints the answer: python3 chat.py http://127.0.0.1:8765 TOKEN "Hello" """
import http.client, json, random, sys, time, urllib.error, urllib.request, uuid

url, token, content = sys.argv[1:]
frame = {"type": "message", "chat_id": str(uuid.uuid4()), "content": content, "turn_id": str(uuid.uuid4())}
answer = {}  # the text of each stream, in the order in which the streams began
cursors, stream_name, accepted, failures = "", "", False, 0

def call(path, headers, body=None):
    headers = {"Authorization": f"Bearer {token}", **headers}
    return urllib.request.urlopen(urllib.request.Request(url + path, body, headers), timeout=30)

def take(event):
    global accepted, stream_name
    kind, stream, text = event["event"], event.get("stream_id", event.get("seq")), event.get("text")
    if kind == "ready": stream_name = event["stream"]
    if kind == "error" and not event["retryable"]: sys.exit(event["detail"])
    if kind == "error": time.sleep(event.get("retry_after_ms", 1000) / 1000 + random.random())  # refused for now
    if kind in ("ready", "error") and "close" not in event and not accepted:  # sent again, it is still one message
        headers = {"Switchboard-Stream": stream_name, "Content-Type": "application/json"}
        call("/messages", headers, json.dumps(frame).encode()).close()
    if kind == "snapshot":  # the log does not continue from the cursor
        if event["part"] == 0: answer.clear()
        for inner in event["events"]: take(inner)
    if kind == "message_accepted": accepted = True
    if kind == "delta": answer[stream] = answer.get(stream, "") + text
    if kind == "stream_end" and event.get("void"): answer.pop(stream, None)
    elif text and (kind == "stream_end" or kind == "message" and "kind" not in event): answer[stream] = text
    if kind in ("permission_request", "question"): print("Another client has to answer:", event, file=sys.stderr)
    if kind == "turn_end": sys.exit(event["error"]["detail"] if "error" in event else print("\n\n".join(answer.values())))

while True:
    try:
        with call("/sse", {"Last-Event-ID": cursors} if cursors else {}) as stream:
            block = {}
            for line in stream:  # an empty line ends an event; its `id` counts from then on
                field, _, value = line.decode().rstrip("\n").partition(": ")
                block[field] = value
                if field == "" and "data" in block:
                    take(json.loads(block["data"]))
                    cursors, block, failures = block.get("id", cursors), {}, 0
    except urllib.error.HTTPError as error:
        if error.code in (401, 403): sys.exit(f"refused: {error.read().decode()}")
    except (OSError, http.client.HTTPException): pass  # connect again
    failures += 1
    time.sleep(random.random() * min(30, 0.5 * 2 ** failures))  # backoff with jitter
