//! A scripted model on loopback: the Anthropic Messages API as far as Claude Code uses it.
//!
//! What it answers depends on the last message of the person: `say:TEXT`, `think:TEXT`, `tool:COMMAND`,
//! `ask`, `edit:PATH`, `slow:N`, `fail`. Everything else, such as titles, gets a short answer.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Serves until the runtime ends. Gives its address.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that hangs up in the middle, as at an interrupt, is no failure here.
            tokio::spawn(async move { connection(stream).await.ok() });
        }
    });
    address
}

async fn connection(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
        answer(stream.get_mut(), &path, &body).await?;
    }
}

async fn answer(stream: &mut TcpStream, path: &str, body: &Value) -> std::io::Result<()> {
    let path = path.split('?').next().unwrap_or_default();
    if path.ends_with("/count_tokens") {
        return whole(stream, "200 OK", &json!({"input_tokens": 100})).await;
    }
    if !path.ends_with("/messages") {
        let error = json!({"type": "error", "error": {"type": "not_found_error", "message": "not served"}});
        return whole(stream, "404 Not Found", &error).await;
    }
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let script = script(messages);
    if script == Script::Fail {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        return whole(stream, "529 Overloaded", &error).await;
    }
    if body["stream"] == true {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        streamed(stream, &script, body).await?;
        return stream.write_all(b"0\r\n\r\n").await;
    }
    let message = json!({"id": "msg_whole", "type": "message", "role": "assistant", "model": body["model"],
        "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 1}});
    whole(stream, "200 OK", &message).await
}

async fn whole(stream: &mut TcpStream, status: &str, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Script {
    Say(String),
    Think(String),
    Tool(String, Value),
    Slow(u32),
    Fail,
}

/// Reads the wish off the conversation: what came last since the model's last word, be it text of the person
/// that begins with a known word or a tool's result. What the agent adds of its own is passed over.
fn script(messages: &[Value]) -> Script {
    let new = messages.iter().rev().take_while(|message| message["role"] != "assistant");
    for message in new.filter(|message| message["role"] == "user") {
        let found = match &message["content"] {
            Value::String(text) => wish(text.trim()),
            content => content.as_array().into_iter().flatten().rev().find_map(|block| {
                if block["type"] == "tool_result" {
                    return Some(Script::Say(format!("tool said: {}", result_text(&block["content"]))));
                }
                wish(block["text"].as_str()?.trim())
            }),
        };
        if let Some(script) = found {
            return script;
        }
    }
    Script::Say("ok".into())
}

fn wish(text: &str) -> Option<Script> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    Some(match word {
        "say" => Script::Say(rest.into()),
        "think" => Script::Think(rest.into()),
        "slow" => Script::Slow(rest.parse().ok()?),
        "fail" => Script::Fail,
        "tool" => {
            Script::Tool("Bash".into(), json!({"command": rest, "description": "a test asked for this"}))
        }
        "write" => Script::Tool("Write".into(), json!({"file_path": rest, "content": "one\ntwo\n"})),
        "ask" => {
            let options =
                json!([{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]);
            let question = json!({"question": "Which colour?", "header": "Colour", "multiSelect": false, "options": options});
            Script::Tool("AskUserQuestion".into(), json!({"questions": [question]}))
        }
        _ => return None,
    })
}

fn result_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        other => other.as_array().into_iter().flatten().filter_map(|block| block["text"].as_str()).collect(),
    }
}

async fn streamed(stream: &mut TcpStream, script: &Script, body: &Value) -> std::io::Result<()> {
    let id = format!("msg_{:08x}", body["messages"].as_array().map_or(0, Vec::len));
    let message = json!({"id": id, "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 100, "output_tokens": 1,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}});
    event(stream, &json!({"type": "message_start", "message": message})).await?;
    let mut stop_reason = "end_turn";
    match script {
        Script::Say(text) => text_block(stream, 0, text).await?,
        Script::Think(text) => {
            start(stream, 0, json!({"type": "thinking", "thinking": "", "signature": ""})).await?;
            for piece in text.split_inclusive(' ') {
                delta(stream, 0, json!({"type": "thinking_delta", "thinking": piece})).await?;
            }
            delta(stream, 0, json!({"type": "signature_delta", "signature": "ZmFrZQ=="})).await?;
            event(stream, &json!({"type": "content_block_stop", "index": 0})).await?;
            text_block(stream, 1, "thought about it").await?;
        }
        Script::Tool(name, input) => {
            stop_reason = "tool_use";
            text_block(stream, 0, "Using a tool. ").await?;
            let id = format!("toolu_{:08x}", body["messages"].as_array().map_or(0, Vec::len));
            start(stream, 1, json!({"type": "tool_use", "id": id, "name": name, "input": {}})).await?;
            delta(stream, 1, json!({"type": "input_json_delta", "partial_json": input.to_string()})).await?;
            event(stream, &json!({"type": "content_block_stop", "index": 1})).await?;
        }
        Script::Slow(chunks) => {
            start(stream, 0, json!({"type": "text", "text": ""})).await?;
            for chunk in 0..*chunks {
                delta(stream, 0, json!({"type": "text_delta", "text": format!("chunk{chunk} ")})).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            event(stream, &json!({"type": "content_block_stop", "index": 0})).await?;
        }
        Script::Fail => {}
    }
    let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
    event(stream, &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}})).await?;
    event(stream, &json!({"type": "message_stop"})).await
}

async fn text_block(stream: &mut TcpStream, index: u32, text: &str) -> std::io::Result<()> {
    start(stream, index, json!({"type": "text", "text": ""})).await?;
    for piece in text.split_inclusive(' ') {
        delta(stream, index, json!({"type": "text_delta", "text": piece})).await?;
    }
    event(stream, &json!({"type": "content_block_stop", "index": index})).await
}

async fn start(stream: &mut TcpStream, index: u32, block: Value) -> std::io::Result<()> {
    event(stream, &json!({"type": "content_block_start", "index": index, "content_block": block})).await
}

async fn delta(stream: &mut TcpStream, index: u32, delta: Value) -> std::io::Result<()> {
    event(stream, &json!({"type": "content_block_delta", "index": index, "delta": delta})).await
}

async fn event(stream: &mut TcpStream, event: &Value) -> std::io::Result<()> {
    let data = format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes()).await
}
