//! `POST /messages`: one frame from a client that has a stream.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, Method, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use switchboard_core::{
    ids::{ChatId, Principal},
    wire::{ClientEnvelope, DecodeError, ErrorCode, Message, decode_binary},
};
use switchboard_runtime::{Admission, Gateway, Inbox, Stopped};
use tokio::time::{sleep, timeout};

use crate::{
    answer::Refusal,
    options::Options,
    request::verified,
    stream::{Stream, Streams},
};

/// The header of a POST that names its stream: the value is the `stream` that the stream's `ready` event gave.
pub const STREAM_HEADER: HeaderName = HeaderName::from_static("switchboard-stream");

/// Passes the frame of a POST to the gateway.
pub(crate) async fn accept(
    gateway: &Gateway,
    options: &Options,
    streams: &Streams,
    admission: Option<Admission>,
    request: Request,
) -> Result<(), Refusal> {
    let principal = verified(admission)?;
    if request.method() != Method::POST {
        return Err(Refusal::ONLY_POST);
    }
    // Other content types need no CORS preflight, so any web page could send them.
    if !is_json(request.headers()) {
        return Err(Refusal::MEDIA_TYPE);
    }
    let stream = stream_of(streams, request.headers(), &principal)?;
    let _place = stream.posts.try_acquire().map_err(|_| Refusal::TOO_MANY_POSTS)?;
    let body = body(request.into_body(), gateway.limits().frame_bytes, options).await?;
    tokio::select! {
        biased;
        taken = hand_over(&stream, &body, options.chats) => taken.map_err(|Stopped| Refusal::GONE),
        () = stream.ended() => Err(Refusal::GONE),
        () = sleep(options.answer_within) => Err(Refusal::BUSY),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let essence = |text: &str| {
        text.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json"))
    };
    let json = types.next().and_then(|value| value.to_str().ok()).is_some_and(essence);
    json && types.next().is_none()
}

/// Finds the stream that a POST names. A stream of another principal counts as missing.
fn stream_of(streams: &Streams, headers: &HeaderMap, principal: &Principal) -> Result<Arc<Stream>, Refusal> {
    let mut names = headers.get_all(&STREAM_HEADER).iter();
    let name = names.next().and_then(|value| value.to_str().ok()).ok_or(Refusal::NO_STREAM)?;
    if names.next().is_some() {
        return Err(Refusal::NO_STREAM);
    }
    streams.find(name.trim()).filter(|stream| stream.principal == *principal).ok_or(Refusal::GONE)
}

async fn body(body: Body, limit: usize, options: &Options) -> Result<Bytes, Refusal> {
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(Refusal::TOO_LARGE);
    }
    match timeout(options.body_within, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TOO_LARGE),
        Ok(Err(_)) => Err(Refusal::BODY),
        Err(_) => Err(Refusal::BODY_LATE),
    }
}

/// Sends the frame to the gateway. Fails also if the stream is being closed, because the gateway then ignores its
/// frames.
async fn hand_over(stream: &Stream, body: &[u8], most: usize) -> Result<(), Stopped> {
    let inbox = stream.inbox.lock().await;
    send(stream, &inbox, body, most).await?;
    if inbox.is_closing() { Err(Stopped) } else { Ok(()) }
}

async fn send(stream: &Stream, inbox: &Inbox, body: &[u8], most: usize) -> Result<(), Stopped> {
    let envelope = match decode_binary(body, inbox.limits(), false) {
        Ok(Some(envelope)) => envelope,
        Ok(None) => return Ok(()),
        Err(error) => return inbox.malformed(error).await,
    };
    if let Some(error) = one_too_many(stream, &envelope, most) {
        return inbox.malformed(error).await;
    }
    // The chats must be up to date before the gateway answers, because event ids name them.
    if let ClientEnvelope::Attach { chat_id, after } = &envelope {
        stream.chats().attach(chat_id.clone(), after.clone());
    } else if let ClientEnvelope::Detach { chat_id } = &envelope {
        stream.chats().detach(chat_id);
    }
    inbox.envelope(envelope).await
}

/// Refuses a frame that would give the stream too many chats: event ids name all chats, and must fit into a header.
fn one_too_many(stream: &Stream, envelope: &ClientEnvelope, most: usize) -> Option<DecodeError> {
    let chats = stream.chats();
    if chats.len() < most || joins(envelope)?.is_some_and(|chat| chats.has(chat)) {
        return None;
    }
    Some(DecodeError {
        code: ErrorCode::LimitReached,
        detail: format!("a stream has at most {most} chats; detach from one first"),
        chat_id: joins(envelope)?.cloned(),
        turn_id: if let ClientEnvelope::Message(message) = envelope { message.turn_id.clone() } else { None },
        request_id: None,
    })
}

/// `Some` if a frame may add a chat to the stream, with the chat's id if the frame names it.
fn joins(envelope: &ClientEnvelope) -> Option<Option<&ChatId>> {
    if let ClientEnvelope::Attach { chat_id, .. } | ClientEnvelope::Message(Message { chat_id, .. }) =
        envelope
    {
        return Some(Some(chat_id));
    }
    matches!(envelope, ClientEnvelope::NewChat {}).then_some(None)
}
