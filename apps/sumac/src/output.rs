//! What goes to standard output: whole texts and aligned tables, without colour; and lines to standard error.

use std::io::{self, Write};

use serde::Serialize;

use crate::Trouble;

/// Prints a text. Nobody left to read it is no failure; a full disk is.
///
/// # Errors
/// [`Trouble::Machine`].
pub fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::Machine(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A line to standard error, whether somebody reads it or not.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a value as JSON.
///
/// # Errors
/// As [`print()`]; or what serde says, which no value of this program makes it do.
pub fn json(value: &impl Serialize) -> Result<(), Trouble> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    print(&(text + "\n"))
}

/// Rows with a heading, in columns two blanks apart. The last column is not padded.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    };
    let rows = rows
        .iter()
        .map(|row| line(std::array::from_fn(|at| row[at].as_str())));
    [line(heading)].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let text = table(
            ["node", "b", "c"],
            &[row(["0", "long", "x y"]), row(["10", "", ""])],
        );
        assert_eq!(text, "node  b     c\n0     long  x y\n10\n");
    }
}
