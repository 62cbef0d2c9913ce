//! The limits in the configuration file: their names, units and ranges.

use std::time::Duration;

use switchboard_core::Limits;

use crate::failure::{Failure, Result};

/// The limits of the HTTP server, of access control and of the shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLimits {
    /// A client has this long to send the complete head of a request.
    pub header_timeout: Duration,
    /// Most headers in a request.
    pub headers: usize,
    /// Longest head of a request, in bytes.
    pub header_bytes: usize,
    /// Most open HTTP connections, without those upgraded to WebSocket.
    pub connections: usize,
    /// Longest lifetime of an HTTP connection that is neither upgraded nor carries an event stream.
    pub http_lifetime: Duration,
    /// Wrong tokens per minute and address that are answered with 401; further wrong tokens are answered with 429.
    pub wrong_tokens_per_minute: u32,
    /// Most WebSocket connections at once that have yet to authenticate in their first frame.
    pub first_frames: usize,
    /// Connections at once from one address without credentials; further connections must send them with the first
    /// request.
    pub unauthenticated_per_address: usize,
    /// Connections at once from all addresses without credentials; further connections must send them likewise.
    pub unauthenticated: usize,
    /// Turns, agents and connections have this long to end when the gateway stops.
    pub shutdown: Duration,
}

impl Default for AccessLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            headers: 64,
            header_bytes: 16 * 1024,
            connections: 10_240,
            http_lifetime: Duration::from_secs(300),
            wrong_tokens_per_minute: 10,
            first_frames: 1024,
            unauthenticated_per_address: 32,
            unauthenticated: 1024,
            shutdown: Duration::from_secs(20),
        }
    }
}

/// The unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Millis,
    /// A count that may be switched off with `off`.
    OptionalCount,
}

impl Unit {
    fn describe(self) -> &'static str {
        match self {
            Self::Count => "a number",
            Self::Bytes => "bytes, or a text such as \"64 KiB\" or \"1 MiB\"",
            Self::Millis => "milliseconds, or a text such as \"250 ms\", \"10 s\", \"5 min\" or \"1 h\"",
            Self::OptionalCount => "a number, or \"off\"",
        }
    }

    fn factor(self, name: &str) -> Option<u64> {
        let known: &[(&str, u64)] = match self {
            Self::Count | Self::OptionalCount => &[],
            Self::Bytes => &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)],
            Self::Millis => &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)],
        };
        known.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
    }
}

/// One limit: its name, unit and range, and the function that stores its value. `None` switches the limit off.
struct Setting {
    name: &'static str,
    unit: Unit,
    least: u64,
    most: u64,
    set: fn(&mut All, Option<u64>),
}

/// All limits that the file may set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct All {
    core: Limits,
    access_control: AccessLimits,
}

fn size(number: Option<u64>) -> usize {
    usize::try_from(number.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
}

fn small(number: Option<u64>) -> u32 {
    number.map_or(u32::MAX, clamp)
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn time(number: Option<u64>) -> u64 {
    number.unwrap_or(u64::MAX)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HOUR: u64 = 3_600_000;

macro_rules! settings {
    ($($name:ident: $unit:ident $least:expr, $most:expr, $group:ident.$field:ident = $convert:expr;)*) => {
        /// Every setting, in the order of the documentation.
        const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            unit: Unit::$unit,
            least: $least,
            most: $most,
            set: |all, number| all.$group.$field = $convert(number),
        },)*];
    };
}

fn optional_size(number: Option<u64>) -> Option<usize> {
    number.map(|number| size(Some(number)))
}

fn optional_small(number: Option<u64>) -> Option<u32> {
    number.map(clamp)
}

fn duration(number: Option<u64>) -> Duration {
    Duration::from_millis(time(number))
}

settings! {
    frame_bytes: Bytes KIB, 64 * MIB, core.frame_bytes = size;
    text_bytes: Bytes 1, 64 * MIB, core.text_bytes = size;
    json_depth: Count 4, 128, core.json_depth = size;
    chats_per_connection: Count 1, 100_000, core.chats_per_connection = size;
    connections_per_principal: OptionalCount 1, 1_000_000, core.connections_per_principal = optional_size;
    connections: Count 1, 1_000_000, core.connections = size;
    messages_per_minute: OptionalCount 1, 1_000_000, core.messages_per_minute = optional_small;
    new_chats_per_minute: OptionalCount 1, 1_000_000, core.new_chats_per_minute = optional_small;
    frames_per_second: Count 1, 1_000_000, core.frames_per_second = small;
    frames_burst: Count 1, 1_000_000, core.frames_burst = small;
    frames_refused: Count 1, 1_000_000, core.frames_refused = small;
    ring_bytes: Bytes 64 * KIB, 1024 * MIB, core.ring_bytes = size;
    outbox_bytes: Bytes 16 * KIB, 256 * MIB, core.outbox_bytes = size;
    queued_turns: Count 0, 10_000, core.queued_turns = size;
    open_requests: Count 1, 10_000, core.open_requests = size;
    open_request_bytes: Bytes 64 * KIB, 64 * MIB, core.open_request_bytes = size;
    request_description_bytes: Bytes 256, 64 * KIB, core.request_description_bytes = size;
    open_work: Count 1, 100_000, core.open_work = size;
    agents: Count 1, 10_000, core.agents = size;
    agent_idle_ms: Millis 1000, 168 * HOUR, core.agent_idle_ms = time;
    stalled_after_ms: Millis 100, 24 * HOUR, core.stalled_after_ms = time;
    silent_turn_ms: Millis 1000, 168 * HOUR, core.silent_turn_ms = time;
    silent_tool_ms: Millis 1000, 168 * HOUR, core.silent_tool_ms = time;
    background_ms: Millis 1000, 168 * HOUR, core.background_ms = time;
    cancel_grace_ms: Millis 100, HOUR, core.cancel_grace_ms = time;
    reader_stall_ms: Millis 1000, HOUR, core.reader_stall_ms = time;
    reader_active_ms: Millis 10, 60_000, core.reader_active_ms = time;
    merge_bytes: Bytes 0, 64 * KIB, core.merge_bytes = size;
    event_text_bytes: Bytes KIB, 128 * KIB, core.event_text_bytes = size;
    pending_bytes: Bytes 64 * KIB, 256 * MIB, core.pending_bytes = size;
    history_events: Count 1, 10_000, core.history_events = small;
    page_bytes: Bytes 16 * KIB, 224 * KIB, core.page_bytes = size;
    list_chats: Count 1, 1000, core.list_chats = small;
    idle_chats: Count 0, 1_000_000, core.idle_chats = size;
    journal_retry_ms: Millis 10, 60_000, core.journal_retry_ms = time;
    header_timeout_ms: Millis 100, 300_000, access_control.header_timeout = duration;
    http_headers: Count 16, 1000, access_control.headers = size;
    http_header_bytes: Bytes 8 * KIB, MIB, access_control.header_bytes = size;
    http_connections: Count 1, 1_000_000, access_control.connections = size;
    http_lifetime_ms: Millis 1000, 24 * HOUR, access_control.http_lifetime = duration;
    wrong_tokens_per_minute: Count 1, 1000, access_control.wrong_tokens_per_minute = small;
    http_first_frames: Count 1, 1_000_000, access_control.first_frames = size;
    unauthenticated_per_address: Count 1, 1_000_000, access_control.unauthenticated_per_address = size;
    unauthenticated_connections: Count 1, 1_000_000, access_control.unauthenticated = size;
    shutdown_ms: Millis 100, HOUR, access_control.shutdown = duration;
}

/// The defaults, overridden by the `[limits]` table of the file. Without authentication everybody is the same
/// principal, so the limits per principal are off by default.
///
/// # Errors
///
/// The table contains an unknown name, or a value of the wrong type or out of range.
pub(super) fn read(table: &toml::Table, auth: bool) -> Result<(Limits, AccessLimits)> {
    let mut all = All::default();
    if !auth {
        all.core.connections_per_principal = None;
        all.core.messages_per_minute = None;
        all.core.new_chats_per_minute = None;
    }
    for (name, value) in table {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| unknown(name))?;
        let number = setting.read(value)?;
        (setting.set)(&mut all, number);
    }
    if !table.contains_key("http_connections") {
        all.access_control.connections = all.access_control.connections.max(all.core.connections);
    }
    // Of the time for the shutdown, the hub gets three quarters; the rest is for closing connections.
    let hub = all.access_control.shutdown * 3 / 4;
    all.core.shutdown_ms = u64::try_from(hub.as_millis()).unwrap_or(u64::MAX);
    Ok((all.core, all.access_control))
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    Failure::new(
        format!("There is no limit called {name:?}."),
        format!("Under [limits] there may be: {}.", names.join(", ")),
    )
}

impl Setting {
    fn read(&self, value: &toml::Value) -> Result<Option<u64>> {
        let text = value.as_str().map(str::trim);
        if self.unit == Unit::OptionalCount && text == Some("off") {
            return Ok(None);
        }
        let number = match text {
            Some(text) => self.with_unit(text),
            None => value.as_integer().and_then(|number| u64::try_from(number).ok()),
        };
        match number.filter(|number| (self.least..=self.most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Failure::new(
                format!("The limit {} is {value}, which it cannot be.", self.name),
                format!(
                    "Under [limits], set {} to {}, from {} to {}; or leave it out for the default.",
                    self.name,
                    self.unit.describe(),
                    self.least,
                    self.most
                ),
            )),
        }
    }

    fn with_unit(&self, text: &str) -> Option<u64> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        number.parse::<u64>().ok()?.checked_mul(self.unit.factor(unit.trim_start())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, auth: bool) -> Result<(Limits, AccessLimits)> {
        read(&toml::from_str(text).unwrap(), auth)
    }

    #[test]
    fn numbers_have_units() {
        let (core, access_control) = parsed(
            "frame_bytes = \"36 MiB\"\nagent_idle_ms = \"5min\"\nring_bytes = 65536\nheader_timeout_ms = \"2 s\"",
            true,
        )
        .unwrap();
        assert_eq!(core.frame_bytes, 36 * 1024 * 1024);
        assert_eq!(core.agent_idle_ms, 300_000);
        assert_eq!(core.ring_bytes, 65_536);
        assert_eq!(access_control.header_timeout, Duration::from_secs(2));
    }

    #[test]
    fn every_setting_keeps_its_range() {
        for setting in SETTINGS {
            let check = |number: u64| {
                let number = i64::try_from(number).unwrap();
                setting.read(&toml::Value::Integer(number))
            };
            assert_eq!(check(setting.least), Ok(Some(setting.least)), "{}", setting.name);
            assert_eq!(check(setting.most), Ok(Some(setting.most)), "{}", setting.name);
            let error = check(setting.most + 1).unwrap_err();
            assert!(error.what().contains(setting.name) && error.remedy().contains("from"), "{error}");
            if setting.least > 0 {
                assert!(check(setting.least - 1).is_err(), "{}", setting.name);
            }
            for wrong in
                ["-1", "\"many\"", "\"5 furlongs\"", "1.5", "true", "[]", "\"99999999999999999999 B\""]
            {
                let text = format!("{} = {wrong}", setting.name);
                assert!(parsed(&text, true).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn every_setting_changes_its_limit() {
        for setting in SETTINGS {
            let changed = |number: u64| {
                let mut all = All::default();
                (setting.set)(&mut all, Some(number));
                all
            };
            assert_ne!(changed(setting.least), changed(setting.most), "{}", setting.name);
        }
    }

    #[test]
    fn the_defaults_are_in_range_and_every_core_limit_has_a_setting() {
        let shown = format!("{:?}", Limits::default());
        let fields = shown.trim_start_matches("Limits {").trim_end_matches('}').split(", ");
        for field in fields {
            let (name, value) = field.trim().split_once(": ").unwrap();
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            let setting = setting.unwrap_or_else(|| panic!("{name} has no setting"));
            let number: u64 = value.trim_start_matches("Some(").trim_end_matches(')').parse().unwrap();
            assert!((setting.least..=setting.most).contains(&number), "{name}");
        }
    }

    #[test]
    fn the_ranges_are_the_documented_ones() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let page = std::fs::read_to_string(page).unwrap();
        for setting in SETTINGS {
            let row = format!("| `{}` | ", setting.name);
            let cells = page.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_default();
            let range: Vec<String> = cells
                .split(" | ")
                .nth(1)
                .unwrap_or_default()
                .split(", ")
                .map(|text| text.replace(',', ""))
                .collect();
            let number = |text: &String| text.parse().ok().or_else(|| setting.with_unit(text));
            let bounds: Vec<Option<u64>> = range.iter().take(2).map(number).collect();
            assert_eq!(bounds, [Some(setting.least), Some(setting.most)], "{}", setting.name);
            let can_be_off = range.iter().any(|text| text.contains("\"off\""));
            assert_eq!(can_be_off, setting.unit == Unit::OptionalCount, "{}", setting.name);
        }
    }

    #[test]
    fn without_authentication_nobody_is_counted_unless_it_is_configured() {
        let (core, _) = parsed("messages_per_minute = 7", false).unwrap();
        assert_eq!(core.connections_per_principal, None);
        assert_eq!(core.new_chats_per_minute, None);
        assert_eq!(core.messages_per_minute, Some(7));
        let (core, _) = parsed("messages_per_minute = \"off\"", true).unwrap();
        assert_eq!(core.messages_per_minute, None);
        assert_eq!(core.connections_per_principal, Some(20));
    }

    #[test]
    fn an_unknown_limit_is_named_with_those_that_there_are() {
        let error = parsed("frame_size = 3", true).unwrap_err();
        assert!(error.what().contains("frame_size") && error.remedy().contains("frame_bytes"), "{error}");
    }
}
