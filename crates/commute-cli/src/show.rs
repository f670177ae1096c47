//! Showing: aligned tables for people, JSON lines for programs.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::exit::Failure;
use crate::global::Color;

/// Where output goes, and in which form.
pub(crate) struct Out {
    /// JSON lines, and nothing else, on standard output.
    pub(crate) json: bool,
    color: bool,
    color_errors: bool,
    to: BufWriter<Stdout>,
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Weak,
    Good,
    Warn,
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        match self {
            Tone::Plain => Style::new(),
            Tone::Head => Style::new().bold(),
            Tone::Weak => Style::new().dimmed(),
            Tone::Good => color(AnsiColor::Green),
            Tone::Warn => color(AnsiColor::Yellow),
            Tone::Bad => color(AnsiColor::Red),
        }
    }
}

/// A cell of a table: text without anything that would move a terminal's cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl std::fmt::Display, tone: Tone) -> Self {
        Cell { text: clean(&text.to_string()), tone }
    }

    /// A number that should be nought.
    pub(crate) fn alarm(count: Option<u64>, tone: Tone) -> Self {
        match count {
            Some(0) => Cell::toned(0, Tone::Plain),
            Some(count) => Cell::toned(count, tone),
            None => Cell::unknown(),
        }
    }

    /// What nobody knows.
    pub(crate) fn unknown() -> Self {
        Cell::toned("-", Tone::Weak)
    }

    /// Something that may be unknown.
    pub(crate) fn maybe(what: Option<impl std::fmt::Display>) -> Self {
        what.map_or_else(Cell::unknown, |what| Cell::toned(what, Tone::Plain))
    }
}

impl<T: std::fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::toned(text, Tone::Plain)
    }
}

/// What came from elsewhere may hold escape sequences.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(clean, "{}", c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// The beginning of a text, and a sign that there is more.
pub(crate) fn short(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Columns: `>` before a heading sets it to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) heads: &'static [&'static str],
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(heads: &'static [&'static str]) -> Self {
        Table { heads, rows: Vec::new() }
    }

    /// The headings, and whether each column is set to the right.
    pub(crate) fn headings(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.heads.iter().map(|head| head.strip_prefix('>').map_or((*head, false), |head| (head, true)))
    }

    /// How wide each column is.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let width = |text: &str| text.chars().count();
        let heads = self.headings().enumerate();
        let of = |n: usize| self.rows.iter().filter_map(move |row| row.get(n)).map(|cell| width(&cell.text)).max();
        heads.map(|(n, (head, _))| of(n).unwrap_or(0).max(width(head))).collect()
    }
}

impl Out {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Out {
            json,
            color: wanted(io::stdout().is_terminal()),
            color_errors: wanted(io::stderr().is_terminal()),
            to: BufWriter::new(io::stdout()),
        }
    }

    /// A JSON object on a line of its own.
    pub(crate) fn object(&mut self, what: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, what)?;
        self.to.write_all(b"\n")
    }

    /// A line for people.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.to, "{text}")
    }

    /// A line of cells with a space between them.
    pub(crate) fn cells(&mut self, cells: &[Cell]) -> io::Result<()> {
        let painted: Vec<_> = cells.iter().map(|cell| paint(&cell.text, cell.tone, self.color)).collect();
        writeln!(self.to, "{}", painted.join("  ").trim_end())
    }

    /// A table for people.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        let (widths, color) = (table.widths(), self.color);
        let head: Vec<_> = table.headings().map(|(head, _)| Cell::toned(head, Tone::Head)).collect();
        for row in std::iter::once(&head).chain(&table.rows) {
            let mut line = String::new();
            for (n, ((cell, width), (_, right))) in row.iter().zip(&widths).zip(table.headings()).enumerate() {
                let space = " ".repeat(width - cell.text.chars().count());
                let gap = if n == 0 { "" } else { "  " };
                let text = paint(&cell.text, cell.tone, color);
                let _ = if right { write!(line, "{gap}{space}{text}") } else { write!(line, "{gap}{text}{space}") };
            }
            writeln!(self.to, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Says something beside the output.
    pub(crate) fn note(&self, text: &str) {
        eprintln!("{}", paint(&clean(text), Tone::Weak, self.color_errors));
    }

    /// Says beside the output how a listing goes on.
    pub(crate) fn more(&self, after: impl std::fmt::Display) {
        if !self.json {
            self.note(&format!("there is more: --after {after}"));
        }
    }

    /// Shows what was written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Says why a command failed, on standard error.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        let _ = self.flush();
        if failure.silent {
            return;
        }
        if self.json {
            let error = serde_json::json!({ "error": failure });
            eprintln!("{error}");
            return;
        }
        let code = failure.code.map_or_else(String::new, |code| format!(" ({code})"));
        let sign = paint("commute:", Tone::Bad, self.color_errors);
        eprintln!("{sign} {}{code}", clean(&failure.message));
        if let Some(remedy) = &failure.remedy {
            eprintln!("  what to do: {remedy}");
        }
    }
}

fn paint(text: &str, tone: Tone, color: bool) -> String {
    if !color || tone == Tone::Plain {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{}{text}{}", style.render(), style.render_reset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_elsewhere_moves_no_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(short("kürzer", 3), "kür…");
        assert_eq!(short("kür", 3), "kür");
    }

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let rows = vec![vec!["a".into(), 1000.into()], vec!["longer".into(), 1.into()]];
        let table = Table { heads: &["NAME", ">EVENTS"], rows };
        assert_eq!(table.widths(), [6, 6]);
    }
}
