//! The requests of turns that this client has cancelled.

use switchboard_core::ids::TurnId;

use super::{Request, Requests};

impl Requests {
    /// Stops asking the requests of a turn that this client has cancelled.
    pub(in crate::chat) fn turn_stopped(&mut self, turn_id: &TurnId) {
        let of_turn = |request: &Request| request.turn_id() == Some(turn_id);
        let was_asked = self.open.front().is_some_and(of_turn);
        let (stopped, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(of_turn);
        self.stopped.extend(stopped);
        self.stopping.push(turn_id.clone());
        self.open = open.into();
        if was_asked {
            self.begin();
        }
    }

    /// Asks the requests of a cancelled turn again, since the gateway refused to cancel it.
    pub(in crate::chat) fn stop_refused(&mut self, turn_id: Option<&TurnId>) {
        self.stopping.retain(|stopping| Some(stopping) != turn_id);
        let of_turn = |request: &Request| request.turn_id() == turn_id;
        let (again, stopped): (Vec<_>, Vec<_>) = self.stopped.drain(..).partition(of_turn);
        self.stopped = stopped;
        if again.is_empty() {
            return;
        }
        for request in again.into_iter().rev() {
            self.open.push_front(request);
        }
        self.begin();
    }

    /// Forgets a cancelled turn that has ended, with its requests.
    pub(in crate::chat) fn turn_ended(&mut self, turn_id: Option<&TurnId>) {
        self.stopping.retain(|stopping| Some(stopping) != turn_id);
        self.stopped.retain(|request| request.turn_id() != turn_id);
    }
}
