//! Production: what is tested, and how it is made anew for every start.

use commute_core::{Code, Error, Result, SharedBroker};

use crate::app::App;

/// Makes the app, once for every start.
pub(super) type Make = Box<dyn FnMut(SharedBroker) -> Result<App>>;

/// What can be tested: an [`App`], or a function that makes one (so that it can be started again after a stop or a
/// crash), with or without the broker as its argument, and with or without a `Result`.
pub trait Production<Kind> {
    #[doc(hidden)]
    fn into_make(self) -> Make;
}

/// An app, or the error of making one.
pub trait IntoApp {
    #[doc(hidden)]
    fn into_app(self) -> Result<App>;
}

impl IntoApp for App {
    fn into_app(self) -> Result<App> {
        Ok(self)
    }
}

impl IntoApp for Result<App> {
    fn into_app(self) -> Result<App> {
        self
    }
}

impl Production<App> for App {
    fn into_make(self) -> Make {
        let mut once = Some(self);
        Box::new(move |_| {
            once.take().ok_or_else(|| {
                let detail = "an app can be started once; to start it again, give the test a function that makes it: \
                              TestApp::start(|| app())";
                Error::new(Code::InvalidApp, detail)
            })
        })
    }
}

impl<F: FnMut() -> R + 'static, R: IntoApp> Production<()> for F {
    fn into_make(mut self) -> Make {
        Box::new(move |_| self().into_app())
    }
}

impl<F: FnMut(SharedBroker) -> R + 'static, R: IntoApp> Production<SharedBroker> for F {
    fn into_make(mut self) -> Make {
        Box::new(move |broker| self(broker).into_app())
    }
}
