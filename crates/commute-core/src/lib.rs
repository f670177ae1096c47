//! stub
pub mod footprint;
pub mod key;
