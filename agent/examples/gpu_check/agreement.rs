//! When a value that was read and one that `nvidia-smi` prints are the same.

/// What differs by how much between two looks at a GPU that is in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Agreement {
    /// Letter by letter.
    Same,
    /// By at most so much.
    Within(f64),
    /// Yes or no, which versions write as words or as numbers.
    Flag,
    /// By at most so much in one of several looks: it changes from moment to moment.
    Moves(f64),
}

use Agreement::{Flag, Moves, Same, Within};

/// Whether they agree; what is absent must be absent on both sides.
pub fn agree(ours: Option<&str>, theirs: &str, agreement: Agreement) -> bool {
    let Some(ours) = ours else { return is_absent(theirs) };
    if is_absent(theirs) {
        return false;
    }
    match agreement {
        Same => ours == theirs || numbers(ours, theirs).is_some_and(|(a, b)| a == b),
        Within(most) => numbers(ours, theirs).is_some_and(|(a, b)| (a - b).abs() <= most),
        Flag => ours == if ["1", "Yes", "Active"].contains(&theirs) { "Yes" } else { "No" },
        Moves(most) => {
            ours == theirs || numbers(ours, theirs).is_some_and(|(a, b)| (a - b).abs() <= most)
        }
    }
}

fn numbers(ours: &str, theirs: &str) -> Option<(f64, f64)> {
    Some((ours.parse().ok()?, theirs.parse().ok()?))
}

/// Whether a value of `nvidia-smi` says that there is none.
fn is_absent(text: &str) -> bool {
    let text = text.trim_matches(['[', ']']);
    ["N/A", "Not Supported", "Not Found", "Unknown Error", "GPU requires reset"].contains(&text)
}

#[cfg(test)]
mod tests {
    use super::Agreement::{Flag, Moves, Same, Within};
    use super::agree;

    #[test]
    fn fields_agree_as_their_kind_demands() {
        assert!(agree(Some("81559"), "81559", Same));
        assert!(agree(Some("700.00"), "700.0", Same));
        assert!(!agree(Some("4"), "5", Same));
        assert!(agree(Some("4"), "60", Within(64.0)));
        assert!(!agree(Some("4"), "69", Within(64.0)));
        assert!(agree(None, "[N/A]", Same) && agree(None, "[Not Supported]", Moves(1.0)));
        assert!(!agree(None, "0", Moves(1.0)), "unsupported is no zero");
        assert!(!agree(Some("0"), "[N/A]", Moves(1.0)));
        assert!(agree(Some("P0"), "P0", Moves(0.0)) && !agree(Some("P0"), "P8", Moves(0.0)));
        assert!(agree(Some("70.5"), "80", Moves(10.0)) && !agree(Some("70"), "81", Moves(10.0)));
        assert!(agree(Some("No"), "0", Flag) && agree(Some("Yes"), "Yes", Flag));
        assert!(!agree(Some("No"), "1", Flag) && !agree(Some("No"), "[N/A]", Flag));
    }
}
