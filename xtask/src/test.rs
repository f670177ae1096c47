//! Everything that must hold before a change is done, in the order in which it fails fastest.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{brokers, hostile, python, run, shop_check, tidy};

/// How much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what needs no server.
    #[arg(long)]
    embedded: bool,
    /// Leave out what is built in release: the short shop-check, and faults on real servers.
    #[arg(long)]
    quick: bool,
}

/// What is built when everything is tested; the suites that need servers are built in their own step.
const ALL: &[&str] = &["--workspace", "--features", "commute/admin,commute/kafka,commute/rabbitmq,commute/zeromq"];

/// What is built without a C build system beyond a compiler.
const EMBEDDED: &[&str] = &[
    "--workspace",
    "--exclude=bench-brokers",
    "--exclude=commute-kafka",
    "--exclude=commute-rabbitmq",
    "--exclude=hostile",
    "--features=commute/admin,commute/zeromq",
];

/// Runs the steps; the first that fails is the last.
///
/// # Errors
/// The failing step's, with its name.
pub(crate) fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    run::step("format", || run::shown(run::cargo(&["fmt", "--all", "--check"])))?;
    run::step("tidy", tidy::run)?;
    let features = if args.embedded { EMBEDDED } else { ALL };
    run::step("lints", || {
        let clippy: &[&str] = &["clippy", "--quiet", "--all-targets"];
        run::shown(run::cargo(&[clippy, features, &["--", "-D", "warnings"]].concat()))
    })?;
    // Not quiet, and to the end: who reads the log wants every summary line, also those after the first failure.
    run::step("tests", || run::shown(run::cargo(&[&["test", "--no-fail-fast"], features].concat())))?;
    let mut left_out = Vec::new();
    if args.embedded {
        println!("── brokers: left out (--embedded)\n");
    } else {
        run::step("brokers", || {
            left_out = brokers::test(!args.quick)?;
            Ok(())
        })?;
    }
    if args.embedded || args.quick {
        println!("── hostile: left out (--embedded or --quick)\n");
    } else {
        run::step("hostile", || {
            left_out.extend(hostile::run_short()?);
            Ok(())
        })?;
    }
    if args.quick {
        println!("── shop-check and python: left out (--quick)\n");
    } else {
        run::step("shop-check", || shop_check::run_short(!args.embedded))?;
        run::step("shop-check on a node", || shop_check::run_on(servers::Kind::Zeromq))?;
        run::step("python", || {
            left_out.extend(python::test()?);
            Ok(())
        })?;
    }
    if !left_out.is_empty() {
        // Everything else is done and known; what was not tested must not look as if it had been.
        bail!("these suites were NOT run, all else is ok:\n  {}", left_out.join("\n  "));
    }
    println!("all steps ok, {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn no_test_of_the_engine_is_left_out_because_a_feature_is() {
        let manifest = include_str!("../../crates/commute/Cargo.toml");
        let needed = manifest.lines().filter_map(|line| line.strip_prefix("required-features = [")?.strip_suffix(']'));
        let needed: Vec<_> = needed.flat_map(|names| names.split(", ").map(|name| name.trim_matches('"'))).collect();
        assert!(needed.contains(&"zeromq"), "{needed:?}");
        let given =
            |name: &str| name == "embedded" || ALL[2].split(',').any(|given| given == format!("commute/{name}"));
        let missing: Vec<_> = needed.into_iter().filter(|name| !given(name)).collect();
        assert!(missing.is_empty(), "{missing:?} are not among {}", ALL[2]);
    }
}
