//! Parses the request for a stream.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, Method},
};
use switchboard_core::ids::{ChatId, Principal};
use switchboard_runtime::Admission;

use crate::{answer::Refusal, chats::Chats};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a request for a stream asks for.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    pub(crate) chats: Chats,
    /// The client's name for itself, from the query parameter `client_id`.
    pub(crate) client_id: Option<String>,
}

impl StreamRequest {
    pub(crate) fn of(request: &Request, most: usize) -> Result<Self, Refusal> {
        if request.method() != Method::GET {
            return Err(Refusal::ONLY_GET);
        }
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let values = |wanted: &'static str| {
            let pairs = form_urlencoded::parse(query);
            pairs.filter(move |(name, _)| name == wanted).map(|(_, value)| value)
        };
        let client_id = values("client_id").next().map(std::borrow::Cow::into_owned);
        // The header is newer than the query, which a browser repeats unchanged when it reconnects.
        let chats = match last_event_id(request.headers())? {
            Some(id) => Chats::parse(id).ok_or(Refusal::CURSORS)?,
            None => {
                let after: Vec<_> = values("after").filter(|after| !after.is_empty()).collect();
                let mut chats = match after.as_slice() {
                    [] => Chats::default(),
                    after => Chats::parse(&after.join(",")).ok_or(Refusal::CURSORS)?,
                };
                for chat in values("chat") {
                    let id = ChatId::parse(&chat).map_err(|_| Refusal::CHATS)?;
                    if !chats.has(&id) {
                        chats.attach(id, None);
                    }
                }
                chats
            }
        };
        if chats.len() > most { Err(Refusal::TOO_MANY_CHATS) } else { Ok(Self { chats, client_id }) }
    }
}

/// The event id from which a browser's `EventSource` continues when it reconnects (HTML, "Last-Event-ID").
fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::REPEATED);
    }
    let text = value.to_str().map_err(|_| Refusal::CURSORS)?.trim();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The principal of the request. A stream has no first frame that could carry credentials.
pub(crate) fn verified(admission: Option<Admission>) -> Result<Principal, Refusal> {
    match admission {
        Some(Admission::Verified(principal)) => Ok(principal),
        Some(Admission::FirstFrame(_)) | None => Err(Refusal::UNAUTHORIZED),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn wanted(query: &str, header: Option<&str>) -> Result<Vec<String>, Refusal> {
        let mut request = Request::builder().uri(format!("/sse?{query}"));
        if let Some(value) = header {
            request = request.header("last-event-id", value);
        }
        let wanted = StreamRequest::of(&request.body(Body::empty()).unwrap(), 3)?;
        let shown = |(id, after): (ChatId, Option<switchboard_core::ids::Cursor>)| match after {
            Some(after) => format!("{id} after {}:{}", after.epoch, after.seq),
            None => id.to_string(),
        };
        Ok(wanted.chats.cursors().map(shown).collect())
    }

    #[test]
    fn chats_and_cursors_are_in_the_address_and_the_header_wins() {
        let cases: [(&str, Option<&str>, &[&str]); 8] = [
            ("", None, &[]),
            ("chat=a&chat=b&chat=a", None, &["a", "b"]),
            ("after=a@e:5", None, &["a after e:5"]),
            ("chat=a&chat=b&after=a@e:5", None, &["a after e:5", "b"]),
            ("after=a%40e%3A5,b%40e:6", None, &["a after e:5", "b after e:6"]),
            ("after=a@e:5&after=b@e:6", None, &["a after e:5", "b after e:6"]),
            ("chat=a&after=a@e:5", Some("b@e:7,c"), &["b after e:7", "c"]),
            ("chat=a&after=", Some(""), &["a"]),
        ];
        for (query, header, expected) in cases {
            assert_eq!(wanted(query, header).unwrap(), expected, "{query} {header:?}");
        }
    }

    #[test]
    fn invalid_requests_are_refused() {
        for (query, header, refusal) in [
            ("after=a@e", None, Refusal::CURSORS),
            ("after=a@e:5", Some("a@"), Refusal::CURSORS),
            ("chat=", None, Refusal::CHATS),
            ("chat=a/b", None, Refusal::CHATS),
            ("chat=a&chat=b&chat=c&chat=d", None, Refusal::TOO_MANY_CHATS),
            ("", Some("a,b,c,d"), Refusal::TOO_MANY_CHATS),
        ] {
            assert_eq!(wanted(query, header), Err(refusal), "{query} {header:?}");
        }
    }
}
