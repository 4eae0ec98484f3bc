//! Aligned columns for people.
//!
//! Cells may hold what a peer chose, such as a stream's name: whatever a terminal would act on is
//! replaced.

use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with one cell for each column.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows
            .push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// The table with its heading, each line ended, no trailing blanks.
    pub(super) fn render(&self) -> String {
        let heading: Vec<String> = self
            .columns
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let width = |column: usize| {
            lines()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                let padding = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line.extend([cell, padding.as_str(), "  "]),
                    Align::Right => line.extend([padding.as_str(), cell, "  "]),
                }
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// The text without what would move a terminal's cursor or reorder what is shown.
pub(super) fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| {
            if acts(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["größe".to_owned(), "5".to_owned()]);
        table.row(["a".to_owned(), "1234".to_owned()]);
        assert_eq!(table.render(), "NAME      N\ngröße     5\na      1234\n");
    }

    #[test]
    fn a_hostile_name_cannot_drive_the_terminal() {
        let mut table = Table::new(&[("NAME", Align::Left)]);
        table.row(["a\u{1b}[2J\r\n\u{9b}31m\u{202e}z".to_owned()]);
        let text = table.render();
        assert_eq!(
            text,
            "NAME\na\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}z\n"
        );
    }
}
