//! A gateway that speaks the protocol of hosts byte by byte, to stop at any point of it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::{Value, json};

use crate::support::TIMEOUT;

/// The present version of the protocol.
pub(crate) const VERSION: u32 = 3;

/// Kinds of messages from a gateway.
pub(crate) const STOP: u8 = 5;
pub(crate) const KILL: u8 = 6;
pub(crate) const RETURN: u8 = 11;

/// Kinds of frames from a host.
const COMMAND: u8 = 3;
const PIPE: u8 = 10;

/// A connection to a host.
pub(crate) struct Connection {
    socket: UnixStream,
    /// The offset of the end of the output when the connection was made.
    pub(crate) end: u64,
}

impl Connection {
    pub(crate) fn open(dir: &Path) -> Self {
        let socket = UnixStream::connect(dir.join("socket")).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut connection = Self { socket, end: 0 };
        let mut hello = VERSION.to_le_bytes().to_vec();
        hello.extend(u64::MAX.to_le_bytes());
        connection.send(1, &hello);
        let answer: Value = serde_json::from_slice(&connection.until(1)).unwrap();
        connection.end = answer["end"].as_u64().unwrap();
        connection
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut frame = u32::try_from(body.len() + 1).unwrap().to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend(body);
        self.socket.write_all(&frame).unwrap();
    }

    /// Waits until the host leaves the agent's output to this gateway, which does not take it out of its pipe.
    pub(crate) fn until_handed_over(&mut self) {
        self.until(PIPE);
    }

    /// Writes a line to the agent, behind the output up to `offset`; waits until that is on disk.
    pub(crate) fn write(&mut self, line: &str, opens_turn: bool, offset: u64) {
        let head = json!({"id": line, "action": "write", "opens_turn": opens_turn, "told": {"cancel": {"turn": "t"}}});
        let head = head.to_string();
        let mut body = offset.to_le_bytes().to_vec();
        body.extend(u32::try_from(head.len()).unwrap().to_le_bytes());
        body.extend(head.as_bytes());
        body.extend(format!("{line}\n").as_bytes());
        self.send(8, &body);
        self.until(COMMAND);
    }

    /// The payload of the next frame of a kind.
    fn until(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 17];
            self.socket.read_exact(&mut head).unwrap();
            let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            let mut payload = vec![0; length + 4 - head.len()];
            self.socket.read_exact(&mut payload).unwrap();
            if head[4] == kind {
                return payload;
            }
        }
    }
}
