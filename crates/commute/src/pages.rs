//! The Rust blocks of the README and the guide, as doctests; `tests/pages.rs` misses what is not here.

/// One module per page, so that a failure names it.
macro_rules! pages {
    ($($(#[$when:meta])* $name:ident = $path:literal;)*) => {
        $(
            $(#[$when])*
            #[doc = include_str!(concat!("../../../", $path))]
            mod $name {}
        )*
    };
}

pages! {
    readme = "README.md";
    quick_start = "docs/guide/quick-start.md";
    publish = "docs/guide/publish.md";
    broker = "docs/guide/broker.md";
    consumer = "docs/guide/consumer.md";
    scheduler = "docs/guide/scheduler.md";
    middleware = "docs/guide/middleware.md";
    handler = "docs/guide/handler.md";
    store = "docs/guide/store.md";
    settle = "docs/guide/settle.md";
    results = "docs/guide/results.md";
    pulling = "docs/guide/pulling.md";
    configuration = "docs/guide/configuration.md";
    #[cfg(feature = "testing")]
    testing = "docs/guide/testing.md";
}
