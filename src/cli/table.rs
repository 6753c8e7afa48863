//! Columns for people: each as wide as its widest cell, two blanks between them.

/// A heading and rows, as text. Cells may hold anything; line ends and control characters in them become blanks,
/// so that data cannot steer a terminal.
pub(super) fn render(heading: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &str| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut out = String::new();
    let heading: Vec<String> = heading.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&heading).chain(&rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_control_characters_are_gone() {
        let rows = vec![vec!["ä".into(), "long cell".into(), "x".into()], vec!["bcd".into(), "\x1b[1m\n".into(), "y".into()]];
        assert_eq!(render(&["A", "B", "C"], &rows), "A    B          C\nä    long cell  x\nbcd   [1m       y\n");
    }
}
