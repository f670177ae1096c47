//! Watching: the same picture again and again, on the whole screen of a terminal or line after line.

use std::io::{self, IsTerminal};
use std::time::Duration;

use commute::{Console, Intent, Reached};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell as Field, Paragraph, Row, Table as Grid};
use serde_json::Value;

use crate::exit::{Exit, Failure, Result};
use crate::session::Session;
use crate::show::{Cell, Out, Table, Tone};

/// The options of commands that can watch.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Watching {
    /// Show it again and again; q ends it on a terminal.
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// How long to wait in between.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = crate::when::duration, requires = "watch")]
    interval: Duration,
    /// End after so many times.
    #[arg(long, value_name = "N", requires = "watch")]
    times: Option<u64>,
}

/// What is to be seen at a moment.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    /// Lines above the tables.
    pub(crate) lines: Vec<String>,
    /// Tables, one below the other.
    pub(crate) tables: Vec<Table>,
    /// The same for programs.
    pub(crate) objects: Vec<Value>,
    /// What is not to be seen, because somebody did not answer.
    pub(crate) missing: Option<Failure>,
}

impl Picture {
    /// Shows it as output.
    pub(crate) fn show(&self, out: &mut Out) -> io::Result<()> {
        if out.json {
            return self.objects.iter().try_for_each(|object| out.object(object));
        }
        for line in &self.lines {
            out.cells(&[Cell::toned(line, Tone::Weak)])?;
        }
        for (n, table) in self.tables.iter().filter(|table| !table.rows.is_empty()).enumerate() {
            if n > 0 || !self.lines.is_empty() {
                out.line("")?;
            }
            out.table(table)?;
        }
        Ok(())
    }
}

/// Looks once, or again and again. An owner that goes away or comes back in between is said and waited for.
pub(crate) async fn look(
    session: &mut Session,
    watching: &Watching,
    look: impl AsyncFn(&Console) -> Result<Picture>,
) -> Result {
    if !watching.watch {
        let console = session.console(Intent::Look).await?;
        let picture = look(&console).await?;
        picture.show(&mut session.out)?;
        return picture.missing.map_or(Ok(Exit::Done), Err);
    }
    let full = !session.out.json && io::stdout().is_terminal() && io::stdin().is_terminal();
    let mut screen = full.then(Screen::open);
    let mut console = None;
    let mut seen = 0;
    loop {
        let picture = again(session, &mut console, &look).await;
        match &mut screen {
            Some(screen) => screen.draw(&picture)?,
            None => {
                match &picture {
                    Ok(picture) => {
                        picture.show(&mut session.out)?;
                        if let Some(failure) = &picture.missing {
                            session.out.failure(failure);
                        }
                    }
                    Err(failure) => session.out.failure(failure),
                }
                if !session.out.json {
                    session.out.line("")?;
                }
                session.out.flush()?;
            }
        }
        seen += 1;
        if watching.times.is_some_and(|times| seen >= times) {
            return picture.and_then(|picture| picture.missing.map_or(Ok(Exit::Done), Err));
        }
        if screen.is_some() {
            if quits(watching.interval).await? {
                return Ok(Exit::Done);
            }
        } else {
            tokio::time::sleep(watching.interval).await;
        }
    }
}

/// Looks with the console of the last time if its owner is still there.
async fn again(
    session: &Session,
    console: &mut Option<Console>,
    look: &impl AsyncFn(&Console) -> Result<Picture>,
) -> Result<Picture> {
    let held = match console.take() {
        Some(held) => held,
        None => session.reach(Intent::Look).await?,
    };
    let picture = look(&held).await?;
    // Files are read as they were when they were opened.
    if *held.reached() != Reached::Files {
        *console = Some(held);
    }
    Ok(picture)
}

/// Waits for the next picture, or for somebody to say that it is enough.
async fn quits(interval: Duration) -> Result<bool> {
    let waited = tokio::task::spawn_blocking(move || -> io::Result<bool> {
        let until = std::time::Instant::now() + interval;
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
            if !event::poll(left)? {
                return Ok(false);
            }
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    });
    Ok(waited.await.map_err(|_| Failure::new(Exit::Failed, "the keyboard cannot be read"))??)
}

/// The whole screen, given back when it is dropped.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn open() -> Self {
        Screen(ratatui::init())
    }

    fn draw(&mut self, picture: &Result<Picture>) -> io::Result<()> {
        self.0.draw(|frame| paint(frame, picture)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn paint(frame: &mut Frame<'_>, picture: &Result<Picture>) {
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Line::styled("q ends this", tone(Tone::Weak)), foot);
    let picture = match picture {
        Ok(picture) => picture,
        Err(failure) => {
            let text = Text::styled(crate::show::clean(&failure.message), tone(Tone::Bad));
            return frame.render_widget(Paragraph::new(text), body);
        }
    };
    let missing = picture.missing.as_ref().map(|failure| crate::show::clean(&failure.message));
    let height = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let tables = || picture.tables.iter().filter(|table| !table.rows.is_empty());
    let heights = tables().map(|table| height(table.rows.len() + 2));
    let above = picture.lines.len() + usize::from(missing.is_some());
    let areas = Layout::vertical(std::iter::once(height(above + 1)).chain(heights)).split(body);
    let mut areas = areas.iter().copied();
    if let Some(area) = areas.next() {
        let lines = picture.lines.iter().map(|line| Line::styled(line.as_str(), tone(Tone::Weak)));
        let lines: Vec<_> = lines.chain(missing.map(|missing| Line::styled(missing, tone(Tone::Bad)))).collect();
        frame.render_widget(Paragraph::new(lines), area);
    }
    for (table, area) in tables().zip(areas) {
        let field = |text: &str, right: bool, tone: Style| {
            let line = Line::styled(text.to_owned(), tone);
            Field::from(if right { line.right_aligned() } else { line })
        };
        let rights: Vec<_> = table.headings().map(|(_, right)| right).collect();
        let head = Row::new(table.headings().map(|(head, right)| field(head, right, tone(Tone::Head))));
        let rows = table.rows.iter().map(|row| {
            Row::new(row.iter().zip(&rights).map(|(cell, right)| field(&cell.text, *right, tone(cell.tone))))
        });
        let widths =
            table.widths().into_iter().map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
        frame.render_widget(Grid::new(rows, widths).header(head).column_spacing(2), area);
    }
}

fn tone(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Head => Style::new().add_modifier(Modifier::BOLD),
        Tone::Weak => Style::new().add_modifier(Modifier::DIM),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn a_picture_fills_the_screen_and_a_failure_takes_its_place() {
        let mut terminal = Terminal::new(TestBackend::new(24, 7)).unwrap();
        let rows = vec![vec!["inventory".into(), 12.into()]];
        let table = Table { heads: &["GROUP", ">BACKLOG"], rows };
        let picture = Ok(Picture {
            lines: vec!["the owner".to_owned()],
            tables: vec![Table::new(&["APP"]), table],
            ..Picture::default()
        });
        terminal.draw(|frame| paint(frame, &picture)).unwrap();
        let seen: Vec<_> = format!("{}", terminal.backend())
            .lines()
            .map(|line| line.trim_matches('"').trim_end().to_owned())
            .collect();
        assert_eq!(seen, ["the owner", "", "GROUP      BACKLOG", "inventory       12", "", "", "q ends this"]);
        let failed = Err(Failure::new(Exit::Failed, "the owner went away"));
        terminal.draw(|frame| paint(frame, &failed)).unwrap();
        assert!(format!("{}", terminal.backend()).contains("the owner went away"));
    }
}
