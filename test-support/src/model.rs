//! A scripted model on loopback: the Anthropic Messages API as far as Claude Code uses it.
//!
//! What it does depends on the last message of the person, which is a word and what follows the colon:
//!
//! | Message | What the model does |
//! |---|---|
//! | `say:TEXT` | says the text |
//! | `think:TEXT` | thinks the text |
//! | `slow:N` | says N pieces of text, ten a second |
//! | `silent:PATH` | writes the file when it is asked, and does not answer |
//! | `tool:COMMAND` | runs the command, and does what it printed if that is such a message, otherwise says it |
//! | `background:COMMAND\|MESSAGE` | runs the command in the background; told that it ended, does what the message says |
//! | `agents:MESSAGE\|MESSAGE` | has a subagent for each message, in parallel |
//! | `background-agent:MESSAGE` | has a subagent in the background |
//! | `write:PATH` | writes a file of two lines |
//! | `ask` | asks a question |
//! | `fail` | fails |
//!
//! Everything else, such as the request for a title, gets a short answer.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// How long the model takes for a piece of slow text.
const SLOW_PIECE: Duration = Duration::from_millis(100);

/// Serves a scripted model until the process ends, and returns its address.
pub fn scripted_model() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // A client that hangs up in the middle, as at an interrupt, is no failure here.
            thread::spawn(move || connection(stream).ok());
        }
    });
    address
}

fn connection(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        answer(stream.get_mut(), path, &body)?;
    }
}

fn answer(stream: &mut TcpStream, path: &str, body: &Value) -> io::Result<()> {
    let path = path.split('?').next().unwrap_or_default();
    if path.ends_with("/count_tokens") {
        return whole(stream, "200 OK", &json!({"input_tokens": 100}));
    }
    if !path.ends_with("/messages") {
        let error = json!({"type": "error", "error": {"type": "not_found_error", "message": "not served"}});
        return whole(stream, "404 Not Found", &error);
    }
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let script = script(messages);
    if script == Script::Fail {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        return whole(stream, "529 Overloaded", &error);
    }
    if let Script::Silent(path) = &script {
        fs::write(path, "")?;
        // Nothing comes but the end of the connection.
        return stream.read(&mut [0]).map(drop);
    }
    if body["stream"] == true {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        streamed(stream, &script, body)?;
        return stream.write_all(b"0\r\n\r\n");
    }
    let message = json!({"id": "msg_whole", "type": "message", "role": "assistant", "model": body["model"],
        "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 1}});
    whole(stream, "200 OK", &message)
}

fn whole(stream: &mut TcpStream, status: &str, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

#[derive(Debug, Clone, PartialEq)]
enum Script {
    Say(String),
    Think(String),
    /// Names of tools and their inputs.
    Tools(Vec<(&'static str, Value)>),
    Slow(u32),
    Silent(PathBuf),
    Fail,
}

/// Reads what is to be done off the conversation: what came last since the model's last word, be it text of the person
/// that begins with a known word or a tool's result, or the news of a command that has ended. What else the agent adds of
/// its own is passed over.
fn script(messages: &[Value]) -> Script {
    let new = messages.iter().rev().take_while(|message| message["role"] != "assistant");
    let new: Vec<&Value> = new.filter(|message| message["role"] == "user").collect();
    let blocks: Vec<Value> = new
        .iter()
        .flat_map(|message| match message["content"].as_str() {
            Some(text) => vec![json!({"type": "text", "text": text})],
            None => blocks_of(&message["content"]).rev().cloned().collect(),
        })
        .collect();
    let told = blocks.iter().find_map(|block| {
        if block["type"] == "tool_result" {
            let text = result_text(&block["content"]);
            return wish(text.trim()).or_else(|| Some(Script::Say(format!("tool said: {text}"))));
        }
        wish(block["text"].as_str()?.trim())
    });
    let news = blocks.iter().find_map(|block| news(block["text"].as_str()?));
    match (told, news) {
        (Some(Script::Say(told)), Some(Script::Say(news))) => Script::Say(format!("{news} {told}")),
        (told, news) => told.or(news).unwrap_or_else(|| Script::Say("ok".into())),
    }
}

/// What is to be done when a command in the background has ended: its description says so.
fn news(text: &str) -> Option<Script> {
    let (_, summary) = text.split_once("<summary>Background command \"")?;
    wish(summary.split_once("\" ")?.0)
}

fn wish(text: &str) -> Option<Script> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    Some(match word {
        "say" => Script::Say(rest.into()),
        "think" => Script::Think(rest.into()),
        "slow" => Script::Slow(rest.parse().ok()?),
        "silent" => Script::Silent(rest.into()),
        "fail" => Script::Fail,
        "tool" => tool("Bash", json!({"command": rest, "description": "a test asked for this"})),
        "background" => {
            let (command, message) = rest.split_once('|')?;
            tool("Bash", json!({"command": command, "description": message, "run_in_background": true}))
        }
        "agents" => Script::Tools(rest.split('|').map(|message| subagent(message, false)).collect()),
        "background-agent" => Script::Tools(vec![subagent(rest, true)]),
        "write" => tool("Write", json!({"file_path": rest, "content": "one\ntwo\n"})),
        "ask" => {
            let options =
                json!([{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]);
            let question = json!({"question": "Which colour?", "header": "Colour", "multiSelect": false, "options": options});
            tool("AskUserQuestion", json!({"questions": [question]}))
        }
        _ => return None,
    })
}

fn tool(name: &'static str, input: Value) -> Script {
    Script::Tools(vec![(name, input)])
}

fn subagent(message: &str, in_background: bool) -> (&'static str, Value) {
    let input = json!({"description": message, "prompt": message, "subagent_type": "general-purpose",
        "run_in_background": in_background});
    ("Agent", input)
}

fn result_text(content: &Value) -> String {
    let text = |block: &Value| block["text"].as_str().map(str::to_owned);
    content.as_str().map_or_else(|| blocks_of(content).filter_map(text).collect(), str::to_owned)
}

fn blocks_of(content: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    content.as_array().into_iter().flatten()
}

fn streamed(stream: &mut TcpStream, script: &Script, body: &Value) -> io::Result<()> {
    let length = body["messages"].as_array().map_or(0, Vec::len);
    let message = json!({"id": format!("msg_{length:08x}"), "type": "message", "role": "assistant",
        "model": body["model"], "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 100, "output_tokens": 1, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0}});
    event(stream, &json!({"type": "message_start", "message": message}))?;
    let mut stop_reason = "end_turn";
    match script {
        Script::Say(text) => text_block(stream, 0, text)?,
        Script::Think(text) => {
            start(stream, 0, json!({"type": "thinking", "thinking": "", "signature": ""}))?;
            for piece in text.split_inclusive(' ') {
                delta(stream, 0, json!({"type": "thinking_delta", "thinking": piece}))?;
            }
            delta(stream, 0, json!({"type": "signature_delta", "signature": "ZmFrZQ=="}))?;
            event(stream, &json!({"type": "content_block_stop", "index": 0}))?;
            text_block(stream, 1, "thought about it")?;
        }
        Script::Tools(tools) => {
            stop_reason = "tool_use";
            text_block(stream, 0, "Using a tool. ")?;
            for (index, (name, input)) in (1..).zip(tools) {
                let id = format!("toolu_{length:04x}{index:04x}");
                start(stream, index, json!({"type": "tool_use", "id": id, "name": name, "input": {}}))?;
                delta(stream, index, json!({"type": "input_json_delta", "partial_json": input.to_string()}))?;
                event(stream, &json!({"type": "content_block_stop", "index": index}))?;
            }
        }
        Script::Slow(pieces) => {
            start(stream, 0, json!({"type": "text", "text": ""}))?;
            for piece in 0..*pieces {
                delta(stream, 0, json!({"type": "text_delta", "text": format!("chunk{piece} ")}))?;
                thread::sleep(SLOW_PIECE);
            }
            event(stream, &json!({"type": "content_block_stop", "index": 0}))?;
        }
        Script::Silent(_) | Script::Fail => {}
    }
    let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
    event(stream, &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}))?;
    event(stream, &json!({"type": "message_stop"}))
}

fn text_block(stream: &mut TcpStream, index: u32, text: &str) -> io::Result<()> {
    start(stream, index, json!({"type": "text", "text": ""}))?;
    for piece in text.split_inclusive(' ') {
        delta(stream, index, json!({"type": "text_delta", "text": piece}))?;
    }
    event(stream, &json!({"type": "content_block_stop", "index": index}))
}

fn start(stream: &mut TcpStream, index: u32, block: Value) -> io::Result<()> {
    event(stream, &json!({"type": "content_block_start", "index": index, "content_block": block}))
}

fn delta(stream: &mut TcpStream, index: u32, delta: Value) -> io::Result<()> {
    event(stream, &json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn event(stream: &mut TcpStream, event: &Value) -> io::Result<()> {
    let data = format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())
}
