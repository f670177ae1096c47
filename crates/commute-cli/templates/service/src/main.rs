//! Runs the service until it is asked to stop.

use std::io::IsTerminal;

use commute::Config;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

#[tokio::main]
async fn main() -> commute::Result<()> {
    // RUST_LOG says how much is logged.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    // What COMMUTE_BROKER and its like say goes before the file.
    let config = Config::from_file("commute.toml")?.environment()?;
    {{crate}}::app().configure(config).run().await
}
