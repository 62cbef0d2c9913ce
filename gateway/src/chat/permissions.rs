//! How the permission requests for running tool uses were closed: a use that was denied did not fail.

use std::collections::HashMap;

use switchboard_core::{
    ids::RequestId,
    wire::{ChatBody, ChatEvent, Resolution, ToolPhase},
};

/// The permission requests of a chat for tool uses that have not ended.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    /// The tool uses of the open requests.
    open: HashMap<RequestId, String>,
    /// How the last request for a tool use was closed, by the id of the use.
    closed: HashMap<String, Resolution>,
}

impl Permissions {
    /// Notes what the event says. If it ends a tool use that had a request, returns how that was closed.
    pub(super) fn note(&mut self, event: &ChatEvent) -> Option<Resolution> {
        if let ChatBody::PermissionRequest(request) = &event.body {
            let call_id = request.call_id.clone()?;
            self.open.insert(request.request_id.clone(), call_id);
        } else if let ChatBody::RequestResolved { request_id, resolution, .. } = &event.body {
            let call_id = self.open.remove(request_id)?;
            self.closed.insert(call_id, *resolution);
        } else if let ChatBody::ToolEvent { phase: ToolPhase::End | ToolPhase::Error, call_id, .. } =
            &event.body
        {
            return self.closed.remove(call_id);
        }
        None
    }
}
