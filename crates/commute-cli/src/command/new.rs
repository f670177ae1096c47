//! `commute new`: a service that compiles and passes its test, in a folder of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::exit::{Exit, Failure, Result};
use crate::session::Session;

/// Where each file of the template goes. Names that cargo or git would act on here end differently here.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../templates/service/Cargo.toml.template")),
    ("src/lib.rs", include_str!("../../templates/service/src/lib.rs")),
    ("src/main.rs", include_str!("../../templates/service/src/main.rs")),
    ("tests/service.rs", include_str!("../../templates/service/tests/service.rs")),
    ("commute.toml", include_str!("../../templates/service/commute.toml")),
    ("README.md", include_str!("../../templates/service/README.md")),
    (".gitignore", include_str!("../../templates/service/gitignore.template")),
];

/// Crates that the service depends on, and what rustc and cargo keep for themselves.
const TAKEN: &[&str] = &[
    "alloc",
    "build",
    "commute",
    "core",
    "deps",
    "examples",
    "incremental",
    "proc_macro",
    "serde",
    "std",
    "test",
    "tokio",
    "tracing_subscriber",
];

/// Words that no crate can be called.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// A name longer than this is no name.
const LONGEST: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the service, and of its new folder.
    name: String,
    /// Depend on this checkout of commute, instead of this version from the registry.
    #[arg(long, value_name = "PATH")]
    commute: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, session: &mut Session) -> Result {
    let name = args.name.as_str();
    checked(name)?;
    let dependency = match &args.commute {
        Some(checkout) => format!("path = {}", text(&of_checkout(checkout)?)?),
        None => format!("version = {:?}", env!("CARGO_PKG_VERSION")),
    };
    let folder = Path::new(name);
    if !is_free(folder).map_err(|cause| cannot(folder, &cause))? {
        let message = format!("{name} is there already, and not an empty folder");
        return Err(Failure::new(Exit::Failed, message).remedy("take another name, or move it away"));
    }
    let crate_name = name.replace('-', "_");
    let written = Draft::beside(name).and_then(|draft| {
        for (path, template) in FILES {
            let file = template.replace("{{name}}", name).replace("{{crate}}", &crate_name);
            draft.write(path, &file.replace("{{commute}}", &dependency))?;
        }
        draft.becomes(folder)
    });
    written.map_err(|cause| cannot(folder, &cause))?;
    if session.out.json {
        let files: Vec<_> = FILES.iter().map(|(path, _)| path).collect();
        session.out.object(&json!({ "folder": name, "files": files }))?;
    } else {
        session.out.line(format!("{name} is there. What to do next:\n"))?;
        for (command, why) in [
            (format!("cd {name}"), ""),
            ("cargo test".to_owned(), "its test, on a clock that stands still"),
            ("cargo run".to_owned(), "the service, until Ctrl-C"),
            (r#"commute publish greetings.asked '{"name": "Ada"}' --type greeting.asked"#.to_owned(), ""),
            ("commute tail greetings.said".to_owned(), "what it answered"),
        ] {
            let line = if why.is_empty() { command } else { format!("{command:<30}# {why}") };
            session.out.line(format!("  {line}"))?;
        }
    }
    Ok(Exit::Done)
}

/// A folder that is not there, or is empty.
fn is_free(folder: &Path) -> std::io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut inside) => Ok(inside.next().is_none()),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(fs::symlink_metadata(folder).is_err()),
        Err(cause) if cause.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(cause) => Err(cause),
    }
}

fn cannot(folder: &Path, cause: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot make {}: {cause}", folder.display()))
}

/// Refuses names that cargo or the service would refuse later, and says why.
fn checked(name: &str) -> Result<()> {
    let crate_name = name.replace('-', "_");
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let wrong = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > LONGEST {
        format!("it is longer than {LONGEST} characters")
    } else if let Some(c) = name.chars().find(|c| !is_known(*c)) {
        format!("it has {c:?} in it")
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it does not begin with a letter".to_owned()
    } else if KEYWORDS.contains(&crate_name.as_str()) {
        "it is a keyword of Rust".to_owned()
    } else if TAKEN.contains(&crate_name.as_str()) {
        "a crate that the service needs, or a folder of cargo's, is called so".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Usage, format!("no service can be called {name:?}: {wrong}"))
        .remedy("take small letters, digits, - and _, beginning with a letter, as in order-desk"))
}

/// The crate `commute` of a checkout.
fn of_checkout(checkout: &Path) -> Result<PathBuf> {
    let found = fs::canonicalize(checkout.join("crates/commute"));
    found.ok().filter(|folder| folder.join("Cargo.toml").is_file()).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("{} is no checkout of commute", checkout.display()))
            .remedy("name the folder that holds crates/commute")
    })
}

/// A path in quotes, as TOML and JSON both write it.
fn text(path: &Path) -> Result<String> {
    let text = path.to_str().and_then(|path| serde_json::to_string(path).ok());
    text.ok_or_else(|| Failure::new(Exit::Usage, format!("{} is no Unicode", path.display())))
}

/// Files that are made beside the place where they belong, so that nothing half made is ever there.
struct Draft(PathBuf);

impl Draft {
    fn beside(name: &str) -> std::io::Result<Self> {
        let folder = PathBuf::from(format!(".{name}.{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Draft(folder))
    }

    fn write(&self, path: &str, text: &str) -> std::io::Result<()> {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&self.0))?;
        fs::write(file, text)
    }

    /// Takes the place of a folder that is not there or empty, in one step.
    fn becomes(self, folder: &Path) -> std::io::Result<()> {
        fs::rename(&self.0, folder)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Where it has become the folder, there is nothing to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}
