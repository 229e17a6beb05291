//! A recorded trace's file: a CSV text with a header, read by the columns that are needed; what it
//! cannot say is refused with file, line and column.

/// What a trace's file says that it cannot say: file, line, field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    /// A column that must be there is not.
    #[error("{file}: line 1: there is no column `{column}`; needed: {needed}")]
    Column {
        /// Which file.
        file: String,
        /// Which column.
        column: String,
        /// All that are needed.
        needed: String,
    },
    /// A value that is not what its column holds.
    #[error("{file}: line {line}: {column} is `{got}`; accepted: {accepted}")]
    Value {
        /// Which file.
        file: String,
        /// Which line.
        line: usize,
        /// Which column.
        column: String,
        /// What it is.
        got: String,
        /// What is accepted.
        accepted: String,
    },
    /// Nothing to place, or nowhere.
    #[error("{file}: {what}")]
    Empty {
        /// Which file.
        file: String,
        /// What is missing.
        what: String,
    },
}

/// The rows of a CSV text with a header, by the columns that are needed.
pub(crate) struct Table<'a> {
    file: &'a str,
    columns: Vec<(&'a str, usize)>,
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
}

pub(crate) struct Row<'a> {
    file: &'a str,
    line: usize,
    cells: Vec<(&'a str, &'a str)>,
}

impl<'a> Table<'a> {
    pub fn new(file: &'a str, text: &'a str, needed: &[&'a str]) -> Result<Self, BadTrace> {
        let mut lines = text.lines().enumerate();
        let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').collect();
        let mut columns = Vec::new();
        for column in needed {
            let Some(at) = header.iter().position(|name| name.trim() == *column) else {
                let (file, column) = (file.to_owned(), (*column).to_owned());
                return Err(BadTrace::Column { file, column, needed: needed.join(", ") });
            };
            columns.push((*column, at));
        }
        Ok(Self { file, columns, lines })
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let (at, line) = self.lines.find(|(_, line)| !line.trim().is_empty())?;
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |at: usize| cells.get(at).map_or("", |cell| cell.trim());
        let cells = self.columns.iter().map(|(name, at)| (*name, cell(*at))).collect();
        Some(Row { file: self.file, line: at + 1, cells })
    }
}

impl<'a> Row<'a> {
    pub fn text(&self, at: usize) -> &'a str {
        self.cells[at].1
    }

    pub fn number(&self, at: usize, most: u64) -> Result<u64, BadTrace> {
        let (column, got) = self.cells[at];
        let number = got.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| self.bad(column, got, format!("a whole number from 0 to {most}")))
    }

    /// A number with at most three decimals, in thousandths.
    pub fn thousandths(&self, at: usize, most: u64) -> Result<u64, BadTrace> {
        let (column, got) = self.cells[at];
        let number = thousandths(got).filter(|number| *number <= most * 1000);
        number.ok_or_else(|| {
            self.bad(column, got, format!("a number from 0 to {most}, at most three decimals"))
        })
    }

    /// What is wrong with a value of this row.
    pub fn wrong(&self, at: usize, accepted: String) -> BadTrace {
        let (column, got) = self.cells[at];
        self.bad(column, got, accepted)
    }

    fn bad(&self, column: &str, got: &str, accepted: String) -> BadTrace {
        BadTrace::Value {
            file: self.file.to_owned(),
            line: self.line,
            column: column.to_owned(),
            got: got.to_owned(),
            accepted,
        }
    }
}

/// `12`, `12.5`, `12.125` in thousandths; no sign, no exponent.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}
