//! The trace language: the inputs of a conversation, line by line, and all outputs after each input.
//!
//! ```text
//! # a comment
//! limit queued_turns 2              before anything else: a limit other than the default
//! described {"agent": ...}           before anything else: the gateway's description of its agents
//! a open [PRINCIPAL]                a client connects; its name is its client_id
//! a> {"type": ...}                  it sends a frame; text that is no JSON is sent as it is
//! a>> BYTES                         it sends these bytes, in which `\\xff`, `\\\\` and `\\s`, a space, are escapes
//! a gone                            it goes
//! a full, a drain, a stalled        its outbox takes nothing, takes again, took nothing for too long
//! a stops reading, a reads again    its outbox fills up, however much its socket takes on the way
//! agent CHAT> EVENT [| EVENT]...    its agent writes these events, all at once
//! agent CHAT> exit gone|unprompted|stopped|failed
//! tick MS                           time passes
//! journal hold|release|refuse N|lose N|fail N|trim CHAT SEQ|damage CHAT
//! journal grants                    from now on the trace grants chats, and agents outlive their gateway
//! journal grant CHAT [MS]           a chat is granted, for ever or for this time
//! journal renew CHAT MS             the grant lasts for this time from now on
//! journal fence CHAT                another gateway owns the chat, which this one has not heard
//! journal revoke CHAT               another gateway owns the chat
//! degraded [WHY]                   nothing can be stored at the moment, or it can again
//! journal crash N                   the last N appends are lost, and every chat gets a new epoch
//! recover CHAT, restart, shutdown
//! a< {...}, a closed CODE {...}, agent CHAT< ..., journal< claim|release CHAT, finished
//! ```
//!
//! The last line lists the outputs. Generated ids are named in the order in which they appear: `E1` an epoch, `C1` a
//! chat, `T1` a turn, `P1` the cursor of a page, `r1.E1` a request of that epoch; a client may use a name that it has
//! seen. Times are `~`.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

/// An input, as the module documentation lists them.
#[allow(missing_docs, reason = "the fields are named as in the language")]
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Limit { name: String, value: u64 },
    Described { agent: String },
    Open { client: String, principal: Option<String> },
    Send { client: String, frame: String },
    SendBytes { client: String, bytes: Vec<u8> },
    Gone { client: String },
    Full { client: String },
    StopReading { client: String },
    ReadAgain { client: String },
    Drain { client: String },
    Stalled { client: String },
    Agent { chat: String, events: Vec<Says> },
    Exit { chat: String, how: String },
    Tick { ms: u64 },
    JournalHold,
    JournalRelease,
    JournalRefuse { appends: u32 },
    JournalLose { appends: u32 },
    JournalCrash { appends: u32 },
    JournalFail { asks: u32 },
    JournalTrim { chat: String, until: u64 },
    JournalDamage { chat: String },
    JournalGrants,
    JournalGrant { chat: String, ms: Option<u64> },
    JournalRenew { chat: String, ms: u64 },
    JournalFence { chat: String },
    JournalRevoke { chat: String },
    Degraded { why: Option<String> },
    Recover { chat: String },
    Restart,
    Shutdown,
}

/// An agent's event, as words and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Says {
    /// The word for the kind of the event.
    pub kind: String,
    /// The arguments; a bare word is a string.
    pub args: Vec<Value>,
}

/// A line of a trace.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// An empty line or a comment.
    Remark(String),
    /// An input, as text and parsed.
    Input(String, Step),
    /// A stated output.
    Output(String),
}

/// Parses a trace.
///
/// # Errors
///
/// A line is not in the language; the message names the line.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    text.lines()
        .enumerate()
        .map(|(at, line)| parse_line(line).map_err(|why| format!("line {}: {why}: {line}", at + 1)))
        .collect()
}

fn parse_line(line: &str) -> Result<Line, String> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Remark(line.to_owned()));
    }
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    if line == "finished" || first.ends_with('<') || rest.starts_with("closed ") {
        return Ok(Line::Output(line.to_owned()));
    }
    if first == "agent" && rest.split_once(' ').is_some_and(|(chat, _)| chat.ends_with('<')) {
        return Ok(Line::Output(line.to_owned()));
    }
    Ok(Line::Input(line.to_owned(), step(first, rest)?))
}

fn step(first: &str, rest: &str) -> Result<Step, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| {
        let word = words.get(at).ok_or("a number is missing")?;
        word.parse::<u64>().map_err(|_| format!("{word} is no number"))
    };
    let few = |at| number(at).and_then(|n| u32::try_from(n).map_err(|_| "too many".to_owned()));
    if let Some(client) = first.strip_suffix(">>") {
        return Ok(Step::SendBytes { client: client.to_owned(), bytes: unescape(rest)? });
    }
    if let Some(client) = first.strip_suffix('>') {
        return Ok(Step::Send { client: client.to_owned(), frame: rest.to_owned() });
    }
    let client = first.to_owned();
    Ok(match (first, words.as_slice()) {
        ("described", [_, ..]) => Step::Described { agent: rest.to_owned() },
        ("limit", [name, _]) => Step::Limit { name: (*name).to_owned(), value: number(1)? },
        ("tick", [_]) => Step::Tick { ms: number(0)? },
        ("journal", ["hold"]) => Step::JournalHold,
        ("journal", ["release"]) => Step::JournalRelease,
        ("journal", ["refuse", _]) => Step::JournalRefuse { appends: few(1)? },
        ("journal", ["lose", _]) => Step::JournalLose { appends: few(1)? },
        ("journal", ["crash", _]) => Step::JournalCrash { appends: few(1)? },
        ("journal", ["fail", _]) => Step::JournalFail { asks: few(1)? },
        ("journal", ["trim", chat, _]) => Step::JournalTrim { chat: (*chat).to_owned(), until: number(2)? },
        ("journal", ["damage", chat]) => Step::JournalDamage { chat: (*chat).to_owned() },
        ("journal", ["grants"]) => Step::JournalGrants,
        ("journal", ["grant", chat]) => Step::JournalGrant { chat: (*chat).to_owned(), ms: None },
        ("journal", ["grant", chat, _]) => {
            Step::JournalGrant { chat: (*chat).to_owned(), ms: Some(number(2)?) }
        }
        ("journal", ["renew", chat, _]) => Step::JournalRenew { chat: (*chat).to_owned(), ms: number(2)? },
        ("journal", ["fence", chat]) => Step::JournalFence { chat: (*chat).to_owned() },
        ("journal", ["revoke", chat]) => Step::JournalRevoke { chat: (*chat).to_owned() },
        ("degraded", words) => Step::Degraded { why: (!words.is_empty()).then(|| rest.to_owned()) },
        ("recover", [chat]) => Step::Recover { chat: (*chat).to_owned() },
        ("restart", []) => Step::Restart,
        ("shutdown", []) => Step::Shutdown,
        ("agent", [chat, "exit", how]) => {
            let chat = chat.strip_suffix('>').ok_or("CHAT> is missing")?;
            Step::Exit { chat: chat.to_owned(), how: (*how).to_owned() }
        }
        ("agent", [chat, ..]) => {
            let text = rest[chat.len()..].trim();
            let chat = chat.strip_suffix('>').ok_or("CHAT> is missing")?;
            Step::Agent { chat: chat.to_owned(), events: agent_events(text)? }
        }
        (_, ["open"]) => Step::Open { client, principal: None },
        (_, ["open", principal]) => Step::Open { client, principal: Some((*principal).to_owned()) },
        (_, ["gone"]) => Step::Gone { client },
        (_, ["stops", "reading"]) => Step::StopReading { client },
        (_, ["reads", "again"]) => Step::ReadAgain { client },
        (_, ["full"]) => Step::Full { client },
        (_, ["drain"]) => Step::Drain { client },
        (_, ["stalled"]) => Step::Stalled { client },
        _ => return Err("not understood".to_owned()),
    })
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().ok_or("an escape is not whole")? {
            b'\\' => b'\\',
            b's' => b' ',
            b'x' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).map_err(|e| e.to_string())?;
                u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?
            }
            _ => return Err("no such escape".to_owned()),
        });
    }
    Ok(bytes)
}

/// `kind arg arg | kind arg`: an argument is a JSON string or object, or a word. `"x"*9` repeats.
fn agent_events(text: &str) -> Result<Vec<Says>, String> {
    let mut events = vec![Vec::new()];
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('|') {
            events.push(Vec::new());
            rest = tail.trim_start();
            continue;
        }
        let (value, tail) = if rest.starts_with(['"', '{', '[']) {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            let value = values.next().ok_or("a value is missing")?.map_err(|e| e.to_string())?;
            repeat(value, &rest[values.byte_offset()..])?
        } else {
            let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            (Value::from(word), tail)
        };
        events.last_mut().ok_or("no event")?.push(value);
        rest = tail.trim_start();
    }
    events
        .into_iter()
        .map(|words| {
            let mut words = words.into_iter();
            let kind = words.next().and_then(|kind| kind.as_str().map(str::to_owned));
            Ok(Says { kind: kind.ok_or("an event is missing")?, args: words.collect() })
        })
        .collect()
}

fn repeat(value: Value, rest: &str) -> Result<(Value, &str), String> {
    let Some(rest) = rest.strip_prefix('*') else { return Ok((value, rest)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let times = rest[..end].parse::<usize>().map_err(|e| e.to_string())?;
    let text = value.as_str().ok_or("only a text can be repeated")?;
    Ok((Value::from(text.repeat(times)), &rest[end..]))
}

/// Names for generated ids.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<String, String>,
    counts: BTreeMap<char, u32>,
}

impl Names {
    /// Replaces the generated ids in a frame of the server by names, and hides its times. Long runs of one letter are
    /// shortened.
    pub fn hide(&mut self, frame: &str) -> String {
        let mut shown = String::with_capacity(frame.len());
        let mut rest = frame;
        while let Some(at) = rest.find("\":") {
            let key_begins = rest[..at].rfind('"').map_or(0, |quote| quote + 1);
            let key = &rest[key_begins..at];
            let (head, tail) = rest.split_at(at + 2);
            shown.push_str(head);
            rest = match key {
                "created_at_ms" | "started_at_ms" | "started_at" | "latency_ms" | "updated_at_ms" => {
                    shown.push_str("\"~\"");
                    &tail[tail.find([',', '}']).unwrap_or(tail.len())..]
                }
                "epoch" => self.hide_value(tail, 'E', |_| true, &mut shown),
                "before" => self.hide_value(tail, 'P', |_| true, &mut shown),
                "chat_id" => self.hide_value(tail, 'C', made_up, &mut shown),
                "turn_id" | "active_turn_id" => self.hide_value(tail, 'T', made_up, &mut shown),
                "request_id" => self.hide_epoch(tail, &mut shown),
                _ => tail,
            };
        }
        shown.push_str(rest);
        shorten(&shown)
    }

    fn hide_value<'a>(
        &mut self,
        tail: &'a str,
        kind: char,
        when: fn(&str) -> bool,
        shown: &mut String,
    ) -> &'a str {
        let Some(value) = tail.strip_prefix('"') else { return tail };
        let end = value.find('"').unwrap_or(value.len());
        if !when(&value[..end]) {
            return tail;
        }
        let name = self.name(&value[..end], kind);
        write!(shown, "\"{name}").expect("a String takes any text");
        &value[end..]
    }

    /// The id of a request ends with the epoch in which it was opened.
    fn hide_epoch<'a>(&self, tail: &'a str, shown: &mut String) -> &'a str {
        let number = tail.find(['.', ',', '}']).filter(|at| tail[*at..].starts_with('.'));
        let Some((number, rest)) = number.map(|at| tail.split_at(at + 1)) else { return tail };
        let (epoch, rest) = rest.split_at(rest.find('"').unwrap_or(rest.len()));
        let Some(name) = self.names.get(epoch) else { return tail };
        write!(shown, "{number}{name}").expect("a String takes any text");
        rest
    }

    /// The name of an id of this kind (`E`, `C`, ...); a new name if the id has none.
    pub fn name(&mut self, id: &str, kind: char) -> String {
        if let Some(name) = self.names.get(id) {
            return name.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let name = format!("{kind}{count}");
        self.names.insert(id.to_owned(), name.clone());
        name
    }

    /// The name of a chat: its id, unless the gateway generated the id.
    pub fn chat(&mut self, id: &str) -> String {
        if made_up(id) { self.name(id, 'C') } else { id.to_owned() }
    }

    /// The name of a turn: its id, unless the gateway generated the id.
    pub fn turn(&mut self, id: &str) -> String {
        if made_up(id) { self.name(id, 'T') } else { id.to_owned() }
    }

    /// Replaces the names in a frame of a client by their ids.
    pub fn reveal(&self, frame: &str) -> String {
        let mut text = frame.to_owned();
        for (id, name) in &self.names {
            text = text.replace(&format!("\"{name}\""), &format!("\"{id}\""));
            text = text.replace(&format!(".{name}\""), &format!(".{id}\""));
        }
        text
    }

    /// The id with this name; the name itself if there is none.
    pub fn id(&self, name: &str) -> String {
        let found = self.names.iter().find(|(_, n)| *n == name);
        found.map_or(name, |(id, _)| id).to_owned()
    }
}

/// Whether the gateway generated this id of a chat or turn. That of an agent's turn begins with `~`.
fn made_up(id: &str) -> bool {
    let id = id.strip_prefix('~').unwrap_or(id);
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Replaces a run of one letter that is longer than 40 by `x*LENGTH`.
pub fn shorten(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = rest.find(|c| c != letter).unwrap_or(rest.len());
        let count = length / letter.len_utf8();
        if count > 40 {
            write!(shown, "{letter}*{count}").expect("a String takes any text");
        } else {
            shown.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    shown
}
