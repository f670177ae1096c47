//! Sends two reminders after a moment; one recipient cannot be reached, is parked, and is released later.

use std::time::Duration;

use commute::Key;
use reminders::{Mail, Reminder, app};

#[tokio::main]
async fn main() -> commute::Result<()> {
    let mail = Mail::default();
    mail.reach("ada", false);
    let running = app(mail.clone()).broker(commute::connect("memory:").await?).start().await?;
    let publisher = running.publisher();
    for recipient in ["ada", "bob"] {
        let reminder = Reminder { recipient: recipient.to_owned(), text: "tea is ready".to_owned() };
        publisher.publish_after("reminders", &reminder, Duration::from_millis(200)).await?;
    }
    running.idle().await?;
    println!("sent to bob: {:?}; to ada: {:?}", mail.sent_to("bob"), mail.sent_to("ada"));
    mail.reach("ada", true);
    // The lane of events that are ordered by their key; an operator says `commute parked release … --key ada`.
    println!("released: {}", running.release(("key", "ada").lane()).await?);
    running.idle().await?;
    println!("sent to ada: {:?}", mail.sent_to("ada"));
    running.stop().await?;
    Ok(())
}
