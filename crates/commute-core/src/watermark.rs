//! Watermarks: which prefix of positions is complete.
