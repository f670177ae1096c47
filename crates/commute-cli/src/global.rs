//! What every command understands: the broker that it is about, and the form of its output.

use std::path::PathBuf;

use clap::ValueEnum;

/// What every command understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The broker, as in embedded:data; without it the directory `data` here, if there is one.
    #[arg(long, global = true, value_name = "URL", env = "COMMUTE_BROKER", hide_env_values = true)]
    pub(crate) broker: Option<String>,
    /// The socket of a running app, instead of a broker.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "broker")]
    pub(crate) socket: Option<PathBuf>,
    /// One JSON object per line, instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; NO_COLOR turns them off, too.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}
