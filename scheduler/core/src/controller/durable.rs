//! What the driver of the log asks of the controller besides decisions: to keep an answer beside
//! its effect, to say when it must be called, and to go back when a record could not be written.

use wharfage_shared::time::Timestamp;

use super::Controller;
use super::soft::NodeHeard;
use crate::words::event::Event;
use crate::words::event::request;

impl Controller {
    /// Keeps the answer to an idempotency key; the fact belongs into the record of its effect.
    pub fn keep_answer(&mut self, request: request::Event) -> Event {
        let event = Event::Request(request);
        self.fleet.apply(&event);
        event
    }

    /// When `tick` must be called at the latest: each decision may make something due earlier.
    pub fn wake(&self) -> Timestamp {
        self.next_wake(self.now)
    }

    /// Goes back to a copy whose facts are all in the log, because later ones could not be written.
    /// Who was heard meanwhile stays heard: a full disk must not make nodes look silent.
    pub fn go_back_to(&mut self, durable: &Self) {
        let later = std::mem::replace(self, durable.clone());
        self.now = self.now.max(later.now);
        for (node, heard) in later.soft.nodes.iter() {
            match self.soft.nodes.get_mut(node) {
                Some(known) => known.at = known.at.max(heard.at),
                None if self.fleet.node(node).is_some() => {
                    let heard = NodeHeard { at: heard.at, ..NodeHeard::default() };
                    self.soft.nodes.insert(node.clone(), heard);
                }
                None => {}
            }
        }
        for (name, heard) in later.soft.gateways {
            if self.fleet.gateway_process(&name).is_some() {
                self.soft.gateways.insert(name, heard);
            }
        }
    }
}
