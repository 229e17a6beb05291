//! What the driver of the log asks of the controller besides decisions: to keep an answer beside
//! its effect, and to go back when a record could not be written.

use super::Controller;
use crate::words::event::Event;
use crate::words::event::request;

impl Controller {
    /// Keeps the answer to an idempotency key; the fact belongs into the record of its effect.
    pub fn keep_answer(&mut self, request: request::Event) -> Event {
        let event = Event::Request(request);
        self.fleet.apply(&event);
        event
    }

    /// Goes back to a copy whose facts are all in the log, because later ones could not be written.
    /// What was heard meanwhile stays heard: a full disk must not make nodes look silent.
    pub fn go_back_to(&mut self, durable: &Self) {
        self.fleet = durable.fleet.clone();
    }
}
