//! The commands, one file each.

pub(crate) mod completions;
pub(crate) mod contract;
pub(crate) mod dead;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod hold;
pub(crate) mod lanes;
pub(crate) mod new;
pub(crate) mod node;
pub(crate) mod parked;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod skip;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod topics;
pub(crate) mod trace;

/// What pages a listing.
#[derive(Debug, clap::Args)]
pub(crate) struct Paging {
    /// How many to show at most.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// Go on behind this one, as the end of the page before said.
    #[arg(long, value_name = "PLACE")]
    pub(crate) after: Option<String>,
}
