//! Not started.
