//! Columns of text.

use std::ops::Range;

/// Which side of its column a cell stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Lines of cells; a column is as wide as its widest cell.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: Vec<(&'static str, Side)>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines of the header and of the rows, without spaces at the ends of lines. Columns that would make a line wider than so
    /// many characters stand below the others.
    pub(super) fn lines(&self, columns: Option<usize>) -> (Vec<String>, Vec<String>) {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
                cells.chain([self.columns[index].0.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let stacks = stacks(&widths, columns.unwrap_or(usize::MAX));
        let line = |cells: &[&str], stack: &Range<usize>| {
            let mut line = " ".repeat(if stack.start == 0 { 0 } else { BELOW });
            for index in stack.clone() {
                if index > stack.start {
                    line.push_str("  ");
                }
                let padding = " ".repeat(widths[index].saturating_sub(cells[index].chars().count()));
                match self.columns[index].1 {
                    Side::Left => line.extend([cells[index], &padding]),
                    Side::Right => line.extend([&padding, cells[index]]),
                }
            }
            line.trim_end().to_owned()
        };
        let lines = |cells: Vec<&str>| stacks.iter().map(|stack| line(&cells, stack)).collect::<Vec<_>>();
        let header = lines(self.columns.iter().map(|(name, _)| *name).collect());
        (header, self.rows.iter().flat_map(|row| lines(row.iter().map(String::as_str).collect())).collect())
    }
}

/// How much further than the first a line below it is indented.
const BELOW: usize = 4;

/// Which columns share a line: as many as there is room for, and at least one.
fn stacks(widths: &[usize], columns: usize) -> Vec<Range<usize>> {
    let mut stacks: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for (index, width) in widths.iter().enumerate() {
        match stacks.last_mut() {
            Some(last) if at + 2 + width <= columns => {
                at += 2 + width;
                last.end = index + 1;
            }
            _ => {
                at = if stacks.is_empty() { *width } else { BELOW + width };
                stacks.push(index..index + 1);
            }
        }
    }
    stacks
}
