//! A service that greets whoever is named.

use commute::prelude::*;

/// Somebody wants to be greeted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "greeting.asked", key = "name")]
pub struct Asked {
    /// Who.
    pub name: String,
}

/// Somebody was greeted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "greeting.said", key = "name")]
pub struct Said {
    /// Who.
    pub name: String,
    /// In which words.
    pub text: String,
}

/// Greets. What it answers is published.
async fn greet(event: Asked) -> Result<Said, HandlerError> {
    if event.name.is_empty() {
        return Err(HandlerError::reject("nobody is named"));
    }
    Ok(Said { text: format!("Hello, {}!", event.name), name: event.name })
}

/// The service, without a broker: `main` and the tests each give it theirs.
pub fn app() -> App {
    App::new("{{name}}").on("greetings.asked", handler(greet).publishes("greetings.said"))
}
