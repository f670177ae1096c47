//! The table in the page about configuration has every key; COMMUTE_WRITE=1 writes it anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use commute::Config;

const BEGIN: &str = "<!-- from here to the end: made by crates/commute/tests/configuration_page.rs -->";

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/configuration.md")
}

fn table() -> String {
    let mut text =
        "| Key | Takes | Variable | Meaning, and what holds when nobody says it |\n|---|---|---|---|\n".to_owned();
    for key in Config::keys() {
        let variable = key.variable.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"));
        let _ = writeln!(text, "| `{}` | {} | {variable} | {} |", key.key, key.takes, key.doc);
    }
    text
}

#[test]
fn the_page_has_every_key() {
    let page = fs::read_to_string(file()).expect("the page");
    let (head, shown) = page.split_once(BEGIN).expect("the place of the table");
    let made = format!("\n\n{}", table());
    if std::env::var_os("COMMUTE_WRITE").is_some() {
        fs::write(file(), format!("{head}{BEGIN}{made}")).expect("written");
    } else {
        assert_eq!(shown, made, "run it with COMMUTE_WRITE=1");
    }
}
