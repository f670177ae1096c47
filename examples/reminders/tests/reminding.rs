//! When a reminder comes, and what becomes of one that cannot be delivered.

use std::time::Duration;

use commute::testing::TestApp;
use reminders::{Mail, Reminder, app};

const MINUTE: Duration = Duration::from_secs(60);

fn reminder(recipient: &str, text: &str) -> Reminder {
    Reminder { recipient: recipient.to_owned(), text: text.to_owned() }
}

#[tokio::test]
async fn a_reminder_comes_at_its_time_and_not_before() -> commute::Result<()> {
    let mail = Mail::default();
    let mut app = TestApp::start(app(mail.clone())).await?;
    app.publish_after("reminders", &reminder("ada", "tea"), 10 * MINUTE).await?;
    app.advance(9 * MINUTE).await?;
    assert!(mail.sent_to("ada").is_empty());
    app.advance(MINUTE + Duration::from_secs(1)).await?;
    assert_eq!(mail.sent_to("ada"), ["tea"]);
    Ok(())
}

#[tokio::test]
async fn whom_nobody_can_reach_is_parked_after_three_attempts_and_others_go_on() -> commute::Result<()> {
    let mail = Mail::default();
    let mut app = TestApp::start(app(mail.clone())).await?;
    mail.reach("ada", false);
    let tea = app.publish("reminders", &reminder("ada", "tea")).await?;
    app.publish("reminders", &reminder("ada", "cake")).await?;
    app.publish("reminders", &reminder("bob", "tea")).await?;
    app.idle().await?;
    assert_eq!(mail.sent_to("bob"), ["tea"], "while ada is tried again");
    app.parked().none();

    app.advance(MINUTE).await?;
    app.parked().times(2);
    let journey = app.journey(&tea);
    assert!(journey.contains("attempt 3 ") && !journey.contains("attempt 4 "), "{journey}");
    app.publish("reminders", &reminder("bob", "cake")).await?;
    app.idle().await?;
    assert_eq!(mail.sent_to("bob"), ["tea", "cake"]);
    app.dead_letters().none();
    Ok(())
}

#[tokio::test]
async fn a_release_brings_everything_back_in_order() -> commute::Result<()> {
    let mail = Mail::default();
    let mut app = TestApp::start(app(mail.clone())).await?;
    mail.reach("ada", false);
    for text in ["tea", "cake", "more tea"] {
        app.publish("reminders", &reminder("ada", text)).await?;
    }
    app.advance(MINUTE).await?;
    app.parked().times(3);
    mail.reach("ada", true);
    assert_eq!(app.release(("key", "ada")).await?, 3);
    app.publish("reminders", &reminder("ada", "good night")).await?;
    app.idle().await?;
    assert_eq!(mail.sent_to("ada"), ["tea", "cake", "more tea", "good night"]);
    app.parked().none();
    Ok(())
}
