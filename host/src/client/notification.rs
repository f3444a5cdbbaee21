//! A notification on the user's desktop.

use crate::blocking::blocking;
use crate::hook::JobEnd;
use notify_rust::Notification;
use sleap_rtc_protocol::text::Printable;
use std::time::Duration;

/// How long the desktop may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Why there is no notification, in words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotificationError {
    /// The desktop refuses, or there is none.
    #[error("no desktop took it: {0}")]
    Refused(Printable),
    /// The desktop does not answer.
    #[error("the desktop did not answer within {} s", LIMIT.as_secs())]
    Slow,
}

/// Shows that the job has ended.
pub(crate) async fn show(end: &JobEnd) -> Result<(), NotificationError> {
    // Desktops read some HTML in the body.
    let body =
        end.summary().as_str().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let showing = blocking(move || {
        let shown =
            Notification::new().appname("sleap-rtc").summary("sleap-rtc").body(&body).show();
        shown.map(drop).map_err(|error| error.to_string())
    });
    let said = match tokio::time::timeout(LIMIT, showing).await {
        Err(_) => return Err(NotificationError::Slow),
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(said))) => said,
        Ok(Err(panicked)) => panicked.to_string(),
    };
    Err(NotificationError::Refused(Printable::line(&said, 300)))
}
