//! Reads the text files that people name on the command line: one that cannot be read is told with its
//! name and, where it is no text, with the line.

use std::path::Path;

use crate::exit::Failure;

/// The whole text of a file of input data; 65 when it cannot be had.
pub fn text(path: &Path) -> Result<String, Failure> {
    let at = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::data(format!("{at}: cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        Failure::data(format!("{at}:{line}: a byte there is not UTF-8; accepted: text in UTF-8"))
    })
}
