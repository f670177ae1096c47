//! Files: looking at a log that nobody owns, without changing anything.
