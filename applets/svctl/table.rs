//! Aligned tables, and colours. Without I/O.

use svcore::listed::Listed;

/// How a text looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    Good,
    Young,
    Bad,
    Faint,
    Head,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Good => "\x1b[32m",
            Style::Young => "\x1b[33m",
            Style::Bad => "\x1b[1;31m",
            Style::Faint => "\x1b[2m",
            Style::Head => "\x1b[1m",
        }
    }

    /// The text in this style, if colours are wanted.
    pub(super) fn paint(self, text: &str, is_coloured: bool) -> String {
        if !is_coloured || self.code().is_empty() || text.is_empty() {
            return text.to_owned();
        }
        [self.code(), text, "\x1b[0m"].concat()
    }
}

/// A cell: a text that needs no escaping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell { text, style: Style::Plain }
    }
}

/// What stands between two columns.
const GAP: &str = "  ";

/// Rows of cells with a heading, one line each. A column without any text is left out. The last column is cut at `width`, if
/// there is one; no other is.
pub(super) fn lines(heads: &[&str], rows: &[Vec<Cell>], width: Option<usize>, is_coloured: bool) -> String {
    let length = |text: &str| text.chars().count();
    let texts = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let columns: Vec<(usize, usize)> = (0..heads.len())
        .filter(|&column| texts(column).any(|cell| !cell.text.is_empty()))
        .map(|column| {
            let head = heads.get(column).map_or(0, |head| length(head));
            (column, texts(column).map(|cell| length(&cell.text)).max().unwrap_or(0).max(head))
        })
        .listed();
    let last = heads.len().saturating_sub(1);
    let head: Vec<Cell> =
        heads.iter().map(|head| Cell { text: (*head).to_owned(), style: Style::Head }).listed();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let (mut line, mut used, mut pending) = (String::new(), 0_usize, 0_usize);
        for &(column, column_width) in &columns {
            let Some(cell) = row.get(column) else { continue };
            let room = width.map(|width| width.saturating_sub(used.saturating_add(pending)));
            let text = if column == last { cut(&cell.text, room) } else { cell.text.clone() };
            if !text.is_empty() {
                line.push_str(&" ".repeat(pending));
                line.push_str(&cell.style.paint(&text, is_coloured));
                used = used.saturating_add(pending).saturating_add(length(&text));
                pending = 0;
            }
            let padding = column_width.saturating_sub(length(&text)).saturating_add(GAP.len());
            pending = pending.saturating_add(padding);
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// As much of a text as there is room for; a part ends in `…`.
fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if text.chars().count() > room => {
            let mut part: String = text.chars().take(room.saturating_sub(1)).collect();
            if room > 0 {
                part.push('\u{2026}');
            }
            part
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>, is_coloured: bool) -> String {
        let row = |words: [&str; 4]| words.map(|word| Cell::from(word.to_owned())).to_vec();
        let mut rows = vec![row(["web", "up", "", "httpd -f -p 8080"]), row(["database", "down", "", ""])];
        rows[1][1].style = Style::Bad;
        lines(&["NAME", "STATE", "READY", "COMMAND"], &rows, width, is_coloured)
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        assert_eq!(
            table(None, false),
            "NAME      STATE  COMMAND\nweb       up     httpd -f -p 8080\ndatabase  down\n"
        );
    }

    #[test]
    fn only_the_last_column_is_cut() {
        assert_eq!(
            table(Some(25), false),
            "NAME      STATE  COMMAND\nweb       up     httpd -\u{2026}\ndatabase  down\n"
        );
        assert_eq!(table(Some(5), false), "NAME      STATE\nweb       up\ndatabase  down\n");
    }

    #[test]
    fn colours_take_no_room() {
        assert!(table(None, true).contains("\ndatabase  \x1b[1;31mdown\x1b[0m\n"));
    }
}
