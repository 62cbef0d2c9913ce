//! One connection to a gateway, over WebSocket or a Unix socket: frames of JSON in both directions.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde::Deserialize;
use switchboard_core::wire::{CloseCode, PROTOCOL};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::header},
};

use super::target::{Target, Token};

/// Longest time for connecting, including the WebSocket handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time for reading why the gateway closed a connection.
const LAST_FRAME: Duration = Duration::from_secs(1);
/// Longest line that is read from a Unix socket, in bytes; the gateway's frames are far shorter.
const LINE: u64 = 4 * 1024 * 1024;

/// An open connection.
pub(super) enum ServerConnection {
    Web(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Unix { lines: BufReader<OwnedReadHalf>, out: OwnedWriteHalf, partial: Vec<u8> },
}

/// Why a connection failed or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The gateway refuses this client; another attempt would fail, too.
    Refused(String),
    /// The gateway refuses this client's credentials, or wants some.
    Unauthenticated,
    /// The gateway accepts no further connection at the moment.
    Full(String),
    /// The last sent frame is longer than the gateway accepts.
    TooLarge,
    /// The connection failed or was lost; another attempt may succeed.
    Gone(String),
}

impl ServerConnection {
    pub(super) async fn open(target: &Target) -> Result<Self, Lost> {
        match timeout(CONNECT, Self::connect(target)).await {
            Ok(opened) => opened,
            Err(_) => Err(Lost::Gone("no answer within 10 s".into())),
        }
    }

    async fn connect(target: &Target) -> Result<Self, Lost> {
        match target {
            Target::Unix(path) => {
                let socket =
                    UnixStream::connect(path).await.map_err(|error| Lost::Gone(error.to_string()))?;
                let (read, out) = socket.into_split();
                Ok(Self::Unix { lines: BufReader::new(read), out, partial: Vec::new() })
            }
            Target::Web { url, token } => {
                let mut request =
                    url.as_str().into_client_request().map_err(|error| Lost::Refused(error.to_string()))?;
                // Without the subprotocol, a gateway that wants a token refuses this client at once. With it, the gateway
                // would wait for a token in the first frame.
                if let Token::Found(token) = token {
                    let headers = request.headers_mut();
                    headers
                        .insert(header::SEC_WEBSOCKET_PROTOCOL, header::HeaderValue::from_static(PROTOCOL));
                    let value = header::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
                    let mut value = value.map_err(|_| Lost::Refused("the token is not one".into()))?;
                    value.set_sensitive(true);
                    headers.insert(header::AUTHORIZATION, value);
                }
                let (socket, _) = connect_async(request).await.map_err(why_not)?;
                Ok(Self::Web(Box::new(socket)))
            }
        }
    }

    pub(super) async fn send(&mut self, line: &str) -> Result<(), Lost> {
        let sent = match self {
            Self::Web(socket) => socket.send(Message::text(line)).await.map_err(|error| error.to_string()),
            Self::Unix { out, .. } => {
                out.write_all(format!("{line}\n").as_bytes()).await.map_err(|error| error.to_string())
            }
        };
        let Err(error) = sent else { return Ok(()) };
        Err(self.reason_for_close().await.unwrap_or(Lost::Gone(error)))
    }

    /// Why the gateway closed a connection that can no longer be written to, from the last frame that it sent; `None` if
    /// there is no such frame, or none within [`LAST_FRAME`]. The frames before it are dropped: the chat is attached
    /// again at the next connection.
    async fn reason_for_close(&mut self) -> Option<Lost> {
        let last = async {
            loop {
                if let Err(lost) = self.next().await {
                    return lost;
                }
            }
        };
        timeout(LAST_FRAME, last).await.ok().filter(|lost| !matches!(lost, Lost::Gone(_)))
    }

    /// Receives the next frame; an empty string stands for a control frame. Cancel safe.
    ///
    /// # Errors
    ///
    /// The connection has ended; the error says why.
    pub(super) async fn next(&mut self) -> Result<String, Lost> {
        match self {
            Self::Web(socket) => match socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(Some(frame)))) => Err(closed(frame.code.into(), &frame.reason)),
                Some(Ok(Message::Close(None))) | None => Err(Lost::Gone("closed".into())),
                // Control frames are answered by the library, and binary frames are ignored; both show that the peer
                // is alive.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    Ok(String::new())
                }
                Some(Err(error)) => Err(Lost::Gone(error.to_string())),
            },
            Self::Unix { lines, partial, .. } => {
                // If this call is cancelled, the bytes it has read stay in `partial`.
                let read = lines.take(LINE).read_until(b'\n', partial).await;
                match read {
                    Ok(_) if partial.ends_with(b"\n") => {
                        let line = String::from_utf8_lossy(partial).trim_end().to_owned();
                        partial.clear();
                        close_reason(&line).map_or(Ok(line), Err)
                    }
                    Ok(_) => Err(Lost::Gone("closed".into())),
                    Err(error) => Err(Lost::Gone(error.to_string())),
                }
            }
        }
    }

    /// Closes the connection with a close handshake.
    pub(super) async fn close(&mut self) {
        if let Self::Web(socket) = self {
            // If the handshake fails or takes too long, the connection is dropped all the same.
            let _ = timeout(Duration::from_secs(1), socket.close()).await;
        }
    }
}

/// Why the gateway closed the connection, by its close code.
fn closed(code: u16, reason: &str) -> Lost {
    match CloseCode::ALL.into_iter().find(|known| known.number() == code) {
        Some(CloseCode::Unauthenticated) => Lost::Unauthenticated,
        Some(CloseCode::TryAgainLater) if !reason.is_empty() => Lost::Full(reason.into()),
        Some(CloseCode::TryAgainLater) => Lost::Full("it has too many connections".into()),
        Some(CloseCode::TooLarge) => Lost::TooLarge,
        Some(CloseCode::ServiceRestart) => Lost::Gone("the gateway stops or restarts".into()),
        Some(
            CloseCode::Normal
            | CloseCode::GoingAway
            | CloseCode::ProtocolError
            | CloseCode::InvalidPayload
            | CloseCode::PolicyViolation
            | CloseCode::TooSlow,
        )
        | None => Lost::Gone(format!("closed by the gateway with code {code}")),
    }
}

/// The reason in the last line on a Unix socket, where an `error` event carries the close code; `None` for other lines.
fn close_reason(line: &str) -> Option<Lost> {
    #[derive(Deserialize)]
    struct Closing {
        close: u16,
        detail: String,
    }
    if !line.starts_with(r#"{"event":"error""#) {
        return None;
    }
    let Closing { close, detail } = serde_json::from_str(line).ok()?;
    Some(closed(close, &detail))
}

fn why_not(error: Error) -> Lost {
    let Error::Http(response) = error else { return Lost::Gone(error.to_string()) };
    match response.status().as_u16() {
        401 => Lost::Unauthenticated,
        403 => Lost::Refused("the gateway does not answer to this host name".into()),
        status @ (400..=499) => Lost::Refused(format!("the gateway refused with status {status}")),
        503 => Lost::Full("too many connections have shown no credentials yet".into()),
        status => Lost::Gone(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_connection_was_closed_is_read_from_code_and_last_line_alike() {
        let full = Lost::Full("the limit is 20".into());
        assert_eq!(closed(1013, "the limit is 20"), full);
        assert!(matches!(closed(1013, ""), Lost::Full(why) if !why.is_empty()));
        assert_eq!(closed(1009, "x"), Lost::TooLarge);
        assert_eq!(closed(4401, "x"), Lost::Unauthenticated);
        assert_eq!(closed(1012, "x"), Lost::Gone("the gateway stops or restarts".into()));
        let last = |close: &str| {
            close_reason(&format!(
                r#"{{"event":"error","code":"limit_reached","detail":"the limit is 20","retryable":true{close}}}"#
            ))
        };
        assert_eq!(last(r#","close":1013"#), Some(full));
        assert!(matches!(last(r#","close":4408"#), Some(Lost::Gone(_))));
        assert_eq!(last(""), None, "the connection goes on");
        assert_eq!(close_reason(r#"{"event":"delta","text":"\"close\":1013"}"#), None);
    }
}
