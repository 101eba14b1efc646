//! The terminal that `corecast top` draws on, and its keys.
//!
//! Owns: the terminal's state while it is open. However it ends, by a key, a signal, an error or a panic, the terminal is as it was.

use std::io::{self, Write as _};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::{cursor, execute, queue};

use super::view::{Line, Style};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// An end.
    End,
    /// The next page.
    Next,
    /// This page, from 1 on.
    Page(u8),
    /// The terminal has another size.
    Resized,
}

/// The terminal.
pub(super) struct Screen(());

impl Screen {
    /// Takes it.
    pub(super) fn open() -> io::Result<Screen> {
        terminal::enable_raw_mode()?;
        // From here on it is given back. A release ends with its first panic, and drops nothing.
        let screen = Screen(());
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            tell(panic);
        }));
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide, terminal::DisableLineWrap)?;
        Ok(screen)
    }

    /// Returns columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        (columns.into(), rows.into())
    }

    /// Draws lines from the top on, over what there was.
    pub(super) fn show(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in lines.iter().enumerate() {
            let attribute = match line.style {
                Style::Plain => Attribute::Reset,
                Style::Bold => Attribute::Bold,
                Style::Reverse => Attribute::Reverse,
            };
            queue!(
                out,
                cursor::MoveTo(0, row as u16),
                SetAttribute(attribute),
                Print(&line.text),
                SetAttribute(Attribute::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()
    }

    /// Waits so long for a key, and returns it if it means something.
    pub(super) fn key(&mut self, patience: Duration) -> io::Result<Option<Key>> {
        if !event::poll(patience)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Resize(..) => Some(Key::Resized),
            Event::Key(key) if key.kind != KeyEventKind::Release => meaning(key),
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was; twice is as good as once.
fn give_back() {
    // Whatever of it fails, the rest is tried.
    let _ = execute!(io::stdout(), terminal::EnableLineWrap, cursor::Show, terminal::LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

fn meaning(key: KeyEvent) -> Option<Key> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::End),
        KeyCode::Tab => Some(Key::Next),
        KeyCode::Char('1' | 's') => Some(Key::Page(1)),
        KeyCode::Char('2' | 't') => Some(Key::Page(2)),
        KeyCode::Char('3' | 'c') => Some(Key::Page(3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys mean what the help says.
    #[test]
    fn keys_have_meanings() {
        let of = |code, modifiers| meaning(KeyEvent::new(code, modifiers));
        let plain = |code| of(code, KeyModifiers::NONE);
        assert_eq!(of(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::End));
        assert_eq!([plain(KeyCode::Char('q')), plain(KeyCode::Esc)], [Some(Key::End); 2]);
        assert_eq!((plain(KeyCode::Tab), plain(KeyCode::Char('3'))), (Some(Key::Next), Some(Key::Page(3))));
        assert_eq!((plain(KeyCode::Char('c')), plain(KeyCode::Char('x'))), (Some(Key::Page(3)), None));
    }
}
