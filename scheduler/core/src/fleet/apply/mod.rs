//! Facts change the fleet here and nowhere else, entity by entity.

mod access;
mod claim;
mod deployment;
mod drill;
mod gateway;
mod meter;
mod money;
mod moves;
mod node;
mod replica;

use crate::fleet::Fleet;
use crate::words::event::Event;

impl Fleet {
    /// Takes one fact in. Total: a fact about something that is not there changes nothing.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Term { term, .. } => self.term = *term,
            Event::Node(event) => node::apply(self, event),
            Event::Replica(event) => replica::apply(self, event),
            Event::Deployment(event) => deployment::apply(self, event),
            Event::Gateway(event) => gateway::apply(self, event),
            Event::Money(event) => money::apply(self, event),
            Event::Claim(event) => claim::apply(self, event),
            Event::Drill(event) => drill::apply(self, event),
            Event::Access(event) => access::apply(self, event),
            Event::Meter(event) => meter::apply(self, event),
            Event::Request(event) => {
                self.requests.insert(event.key.clone(), event.clone().into());
            }
        }
    }
}
