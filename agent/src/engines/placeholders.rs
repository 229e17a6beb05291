//! `{name}` in a definition's texts, replaced by what one replica needs.

/// Replaces placeholders in one pass, so that a value that looks like one is left alone.
pub fn fill(template: &str, values: &[(String, String)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    'outer: while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        for (name, value) in values {
            if let Some(after) = rest.strip_prefix(name.as_str()) {
                filled.push_str(value);
                rest = after;
                continue 'outer;
            }
        }
        filled.push('{');
        rest = &rest[1..];
    }
    filled.push_str(rest);
    filled
}

/// The placeholders of a text as they stand there: `{`, letters, `_` or `.`, `}`.
pub fn named(template: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
    let pieces = template.match_indices('{').filter_map(|(at, _)| {
        let inside = &template[at + 1..];
        let end = inside.find('}')?;
        let name = &inside[..end];
        (!name.is_empty() && name.chars().all(is_name)).then(|| &template[at..at + end + 2])
    });
    pieces.collect()
}
