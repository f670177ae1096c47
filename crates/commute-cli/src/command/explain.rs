//! `commute explain`: the page about an error code.

use commute::Code;
use serde_json::json;

use crate::exit::{Exit, Failure, Result};
use crate::session::Session;
use crate::show::Table;

/// The pages of docs/errors by their codes.
const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code, as in CM0015 or 15; without it, all of them.
    code: Option<String>,
}

pub(crate) fn run(args: Args, session: &mut Session) -> Result {
    let wanted = args.code.as_deref().map(number).transpose()?;
    let mut table = Table::new(&["CODE", "MEANING"]);
    for code in Code::ALL.iter().filter(|code| wanted.as_ref().is_none_or(|wanted| code.number() == wanted)) {
        let page = PAGES.iter().find(|(known, _)| *known == code.number()).map_or("", |(_, page)| *page);
        if session.out.json {
            session.out.object(&json!({
                "code": code.number(),
                "meaning": code.meaning(),
                "remedy": code.remedy(),
                "retryable": code.is_retryable(),
                "page": page,
            }))?;
        } else if wanted.is_some() {
            // What is between the marks of a comment is for those who edit the page.
            let lines: Vec<_> = page.lines().filter(|line| !line.starts_with("<!--")).collect();
            session.out.line(lines.join("\n").trim_end())?;
        } else {
            table.rows.push(vec![code.number().into(), code.meaning().into()]);
        }
    }
    if !table.rows.is_empty() {
        session.out.table(&table)?;
    }
    Ok(Exit::Done)
}

/// The code as it is written in the list.
fn number(text: &str) -> Result<String> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let number = digits.parse().map(|number: u32| format!("CM{number:04}")).unwrap_or_default();
    match Code::ALL.iter().any(|code| code.number() == number) {
        true => Ok(number),
        false => Err(Failure::new(Exit::NotFound, format!("there is no error code {text:?}"))
            .remedy("`commute explain` lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_in_the_program() {
        for code in Code::ALL {
            let page = PAGES.iter().find(|(known, _)| *known == code.number());
            assert!(page.is_some_and(|(_, page)| page.contains(code.meaning())), "{code}");
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_written() {
        for text in ["CM0015", "cm15", "15", "0015"] {
            assert_eq!(number(text).ok().as_deref(), Some("CM0015"));
        }
        assert!(number("CM9999").is_err() && number("x").is_err());
    }
}
