//! What commutes overlaps, and what does not keeps its place.

use commute::testing::TestApp;
use counter::{Reset, TAKES, Viewed, Views, app};

fn viewed(page: &str) -> Viewed {
    Viewed { page: page.to_owned() }
}

#[tokio::test]
async fn a_hundred_views_of_one_page_take_as_long_as_one() -> commute::Result<()> {
    let views = Views::default();
    let mut app = TestApp::start(app(views.clone())).await?;
    for _ in 0..100 {
        app.publish("pages", &viewed("/")).await?;
    }
    app.advance(TAKES + TAKES / 2).await?;
    assert_eq!(views.of("/"), 100);
    Ok(())
}

#[tokio::test]
async fn a_reset_keeps_its_place_between_the_views() -> commute::Result<()> {
    let views = Views::default();
    let mut app = TestApp::start(app(views.clone())).await?;
    for _ in 0..3 {
        app.publish("pages", &viewed("/")).await?;
    }
    app.publish("pages", &Reset { page: "/".to_owned() }).await?;
    for _ in 0..2 {
        app.publish("pages", &viewed("/")).await?;
    }
    app.advance(10 * TAKES).await?;
    app.handled::<Reset>("pages").once();
    app.handled::<Viewed>("pages").times(5);
    assert_eq!(views.of("/"), 2, "the three before it are forgotten, the two behind it count");
    Ok(())
}

#[tokio::test]
async fn a_reset_holds_up_no_other_page() -> commute::Result<()> {
    let views = Views::default();
    let mut app = TestApp::start(app(views.clone())).await?;
    app.publish("pages", &viewed("/a")).await?;
    app.publish("pages", &Reset { page: "/a".to_owned() }).await?;
    app.publish("pages", &viewed("/a")).await?;
    app.publish("pages", &viewed("/b")).await?;
    app.advance(TAKES + TAKES / 2).await?;
    assert_eq!((views.of("/a"), views.of("/b")), (0, 1));
    app.advance(TAKES).await?;
    assert_eq!((views.of("/a"), views.of("/b")), (1, 1));
    Ok(())
}
