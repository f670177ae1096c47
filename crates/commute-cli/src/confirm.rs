//! Asking before something that cannot be undone.

use std::io::{self, IsTerminal, Write};

use crate::exit::{Exit, Failure, Result};

/// The option of commands that cannot be undone.
#[derive(Debug, clap::Args)]
pub(crate) struct Sure {
    /// Do it without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

impl Sure {
    /// Goes on when somebody says yes; `what` is a question without its mark.
    ///
    /// # Errors
    /// `Unconfirmed` otherwise.
    pub(crate) fn ask(&self, what: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let message = format!("this cannot be undone: {what}");
            return Err(Failure::new(Exit::Unconfirmed, message).remedy("say --yes when you are sure"));
        }
        eprint!("{what}? This cannot be undone. [y/N] ");
        let _ = io::stderr().flush();
        let mut said = String::new();
        io::stdin().read_line(&mut said)?;
        match said.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Unconfirmed, "nothing was done")),
        }
    }
}
