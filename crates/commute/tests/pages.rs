//! Every page with Rust on it is compiled, so no page can show what does not work.

use std::fs;
use std::path::Path;

/// The guide, and what names backends.
const COMPILED: [&str; 2] = [include_str!("../src/pages.rs"), include_str!("../src/drivers.rs")];

#[test]
fn every_page_with_rust_on_it_is_a_doctest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for folder in ["docs/guide", "docs/brokers"] {
        for page in fs::read_dir(root.join(folder)).unwrap() {
            let name = page.unwrap().file_name().into_string().unwrap();
            let path = format!("{folder}/{name}");
            if name.ends_with(".md") && fs::read_to_string(root.join(&path)).unwrap().contains("\n```rust") {
                assert!(
                    COMPILED.iter().any(|source| source.contains(&format!("{path}\""))),
                    "add {path} to crates/commute/src/pages.rs"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "the pages were found: {seen}");
}
