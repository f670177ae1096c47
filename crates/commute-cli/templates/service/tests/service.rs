//! The service as it is in production, on a clock that stands still.

use commute::testing::TestApp;
use {{crate}}::{Asked, Said, app};

#[tokio::test]
async fn whoever_is_named_is_greeted_once() -> commute::Result<()> {
    let mut app = TestApp::start(app).await?;
    app.publish("greetings.asked", &Asked { name: "Ada".to_owned() }).await?;
    app.idle().await?;
    app.published::<Said>("greetings.said").once().with(|said| said.text == "Hello, Ada!");
    app.dead_letters().none();
    Ok(())
}
