//! The shop: five services that share topics and nothing else, fed with the orders of a CSV file.
//!
//! `events` is what they tell each other, `services` is what they do, `shop` runs them together; the rest feeds them,
//! watches them and reports.

pub mod events;
pub mod feed;
pub mod generate;
pub mod money;
pub mod orders_csv;
pub mod progress;
pub mod report;
pub mod services;
pub mod shop;
pub mod summary;
pub mod trouble;
