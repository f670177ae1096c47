//! Conformance: the promises of the contract, each tested once, for every backend.
//!
//! A backend implements [`Fixture`] (a store: [`StoreFixture`]) in one short test file and names it in one line:
//!
//! ```text
//! commute_conformance::broker_suite!(MyFixture::new());
//! ```
//!
//! Every case becomes a test of its own, with a sentence for a name, on a fixture of its own. What a case needs beyond
//! the least is read from the broker's [`Capabilities`](commute_core::Capabilities); a case whose needs are not declared
//! says so and does nothing. Randomness is seeded: a failure prints the seed, and `COMMUTE_SEED` repeats it.
//!
//! | Room | Promises |
//! |---|---|
//! | [`broker`] | publishing, delivering, settling, parking, restarts |
//! | [`store`] | one effect per event, and the outbox |
//! | [`proxy`] | not a suite: a network that can be cut, to put between a client and a server |
//! | [`fault`] | not a suite: a broker that misbehaves within the contract, to test what stands on one |

pub mod broker;
pub mod fault;
mod fixture;
mod need;
pub mod proxy;
pub mod store;
mod trial;

pub use fixture::{Ending, Fixture, ManualClock, StoreFixture, Verdict, Work, patience};
pub use need::Need;

/// One case of a suite.
pub struct Case<T> {
    /// The file and the sentence.
    pub name: &'static str,
    /// What the backend must declare for it.
    pub needs: &'static [Need],
    run: fn(T) -> commute_core::BoxFuture<'static, ()>,
}

impl<T> std::fmt::Debug for Case<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.name, self.needs)
    }
}

/// Makes a test of every broker case. The expression makes a fixture; it is evaluated once for each test.
#[macro_export]
macro_rules! broker_suite {
    ($fixture:expr) => {
        $crate::broker_cases! { [$crate::suite_tests] [$fixture] [$crate::broker::run] }
    };
}

/// Makes a test of every store case. The expression makes a fixture; it is evaluated once for each test.
#[macro_export]
macro_rules! store_suite {
    ($fixture:expr) => {
        $crate::store_cases! { [$crate::suite_tests] [$fixture] [$crate::store::run] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! suite_tests {
    ([$fixture:expr] [$run:path] $($file:ident { $($name:ident $needs:tt)* })*) => {$(
        mod $file {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $name() {
                    $run(concat!(stringify!($file), "::", stringify!($name)), $fixture);
                }
            )*
        }
    )*};
}

/// Turns the list of a suite into data.
macro_rules! suite_list {
    ($($file:ident { $($name:ident $needs:tt)* })*) => {
        vec![$($($crate::Case {
            name: concat!(stringify!($file), "::", stringify!($name)),
            needs: {
                #[allow(unused_imports)]
                use $crate::need::Need::*;
                &$needs
            },
            run: |trial| Box::pin($file::$name(trial)),
        }),*),*]
    };
}
pub(crate) use suite_list;
