//! Facts change the fleet here and nowhere else.

use crate::fleet::Fleet;
use crate::words::event::Event;

impl Fleet {
    /// Takes one fact in.
    pub fn apply(&mut self, event: &Event) {
        if let Event::Term { term, .. } = event {
            self.term = *term;
        }
    }
}
