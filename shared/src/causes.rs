//! What people are told of an error: it and its causes, in one line.
//!
//! Our errors keep their cause as a source and do not repeat it, and so do those of libraries;
//! whoever prints only the first of the chain hides the reason.

use std::error::Error;

/// The error and its causes, outermost first, with a colon between them.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn every_cause_is_told_outermost_first() {
        let cause = Told("permission denied", None);
        let read = Told("cannot read `a`", Some(Box::new(cause)));
        let error = Told("no configuration", Some(Box::new(read)));
        assert_eq!(with_causes(&error), "no configuration: cannot read `a`: permission denied");
        assert_eq!(with_causes(&Told("alone", None)), "alone");
    }
}
