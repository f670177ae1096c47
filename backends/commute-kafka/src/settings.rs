//! Settings: what a server or a topic is set to, as far as it is for us to see.

use std::collections::HashMap;
use std::str::FromStr;

use rdkafka::admin::ConfigResource;

/// Settings of a server or a topic, by their names.
#[derive(Debug, Default)]
pub(crate) struct Settings(pub(crate) HashMap<String, String>);

impl Settings {
    pub(crate) fn of(resource: ConfigResource) -> Self {
        let known = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        Settings(known.collect())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number<N: FromStr>(&self, name: &str) -> Option<N> {
        self.text(name)?.parse().ok()
    }
}
