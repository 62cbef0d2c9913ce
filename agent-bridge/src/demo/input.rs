//! The input of the demo agent, read in a separate thread so that an interrupt takes effect at once.

use std::{
    io::{BufRead, BufReader, Read},
    sync::mpsc::{Receiver, Sender, channel},
};

use serde_json::Value;

use super::task::Task;

/// One line of input, or the end of a background task.
#[derive(Debug)]
pub(super) enum Input {
    Prompt(Prompt),
    Interrupt {
        request_id: String,
    },
    /// Another control request, which is answered with success.
    Control {
        request_id: String,
        subtype: String,
    },
    /// The answer to a request of the demo agent.
    Answer {
        request_id: String,
        answer: Value,
    },
    /// No line: a background task has ended.
    Due(Task),
    /// A line that is not JSON. It ends the process, as in Claude Code.
    Garbage,
}

#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) uuid: Option<String>,
}

/// Reads lines until the input ends; then the channel is closed.
///
/// # Errors
/// If the thread cannot be started.
pub(super) fn listen(input: impl Read + Send + 'static) -> std::io::Result<Receiver<Input>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("demo-input".into()).spawn(move || read(input, &sender))?;
    Ok(receiver)
}

fn read(input: impl Read, sender: &Sender<Input>) {
    for line in BufReader::new(input).lines() {
        let Ok(line) = line else { return };
        let heard = match serde_json::from_str::<Value>(&line) {
            Ok(value) => parse(&value),
            Err(_) if line.trim().is_empty() => None,
            Err(_) => Some(Input::Garbage),
        };
        if heard.is_some_and(|heard| sender.send(heard).is_err()) {
            return;
        }
    }
}

fn parse(line: &Value) -> Option<Input> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match line["type"].as_str()? {
        "user" => {
            let content = &line["message"]["content"];
            let texts = content.as_array().into_iter().flatten().filter_map(|block| block["text"].as_str());
            let prompt = content.as_str().map_or_else(|| texts.collect::<Vec<_>>().join("\n"), Into::into);
            Some(Input::Prompt(Prompt { text: prompt, uuid: line["uuid"].as_str().map(Into::into) }))
        }
        "control_request" => {
            let (request_id, subtype) = (text(&line["request_id"]), text(&line["request"]["subtype"]));
            Some(match subtype.as_str() {
                "interrupt" => Input::Interrupt { request_id },
                _ => Input::Control { request_id, subtype },
            })
        }
        "control_response" => {
            let response = &line["response"];
            Some(Input::Answer {
                request_id: text(&response["request_id"]),
                answer: response["response"].clone(),
            })
        }
        _ => None,
    }
}
