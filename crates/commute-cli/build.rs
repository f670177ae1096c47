//! Puts the pages of docs/errors into the program.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let folder = Path::new(&root).join("../../docs/errors");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut names: Vec<_> = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    let mut pages = "&[\n".to_owned();
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(code) = name.strip_suffix(".md").filter(|name| name.starts_with("CM")) {
            let path = fs::canonicalize(entry.path())?;
            writeln!(pages, "({code:?}, include_str!({:?})),", path.display().to_string()).map_err(io::Error::other)?;
        }
    }
    pages.push_str("]\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("pages.rs"), pages)
}
